"""The API key or token that calls carry. It occurs in no repr, error message or pickle."""

import asyncio
import inspect
import re
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc

from statecast.v1.reasons import Reason

from .errors import DeadlineExceeded, StatecastError, Unauthenticated, from_rpc_error, invalid

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Token: TypeAlias = Callable[[], str]
AsyncToken: TypeAlias = Callable[[], str | Awaitable[str]]

_NOTHING: Metadata = ()


class Bearer:
    """A fixed key, or a token that a function returns; the function is asked again after the token has expired."""

    def __init__(self, api_key: str | None, token: AsyncToken | None) -> None:
        self._token = token
        self._kept = None if token else _metadata(api_key)
        self._replacing = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client's credential cannot be pickled; make the client where it is used")

    def failure(self, error: grpc.RpcError | StatecastError, sent: Metadata) -> StatecastError:
        """Return the error of a call that carried `sent`. If its token has expired, the next call asks for another."""
        made = from_rpc_error(error)
        if self._token and isinstance(made, Unauthenticated) and made.reason == Reason.CREDENTIAL_EXPIRED:
            made.has_another_token = True
            with self._replacing:
                if self._kept is sent:  # or another call has replaced it already
                    self._kept = None
        return made

    def _keep(self, token: Any) -> Metadata:
        if not isinstance(token, str):
            if inspect.iscoroutine(token):
                token.close()
            raise invalid("token", f"the function returned {type(token).__name__}; it must return a text")
        self._kept = kept = _metadata(check_secret("token", token))
        return kept


class SyncBearer(Bearer):
    """The credential of a synchronous client. Threads may share it."""

    def __init__(self, api_key: str | None, token: AsyncToken | None) -> None:
        super().__init__(api_key, token)
        self._asking = threading.Lock()

    def metadata(self) -> Metadata:
        """Return the header of a call; ask for the token if none is kept.

        Raises:
            StatecastError: The function failed, or returned something that is no token.
        """
        if (kept := self._kept) is not None:
            return kept
        with self._asking:
            if (kept := self._kept) is not None or self._token is None:
                return kept or _NOTHING
            try:
                token = self._token()
            except Exception as error:
                raise _failed(error) from error
            return self._keep(token)


class AsyncBearer(Bearer):
    """The credential of an asyncio client."""

    def __init__(self, api_key: str | None, token: AsyncToken | None) -> None:
        super().__init__(api_key, token)
        self.enter_loop()

    def enter_loop(self) -> None:
        """Let another event loop use it; the previous one has ended."""
        self._asking = asyncio.Lock()

    async def metadata(self, timeout_seconds: float | None = None) -> Metadata:
        """Return the header of a call; ask for the token if none is kept.

        Raises:
            StatecastError: The function failed or took too long, or returned something that is no token.
        """
        if (kept := self._kept) is not None:
            return kept
        try:
            async with asyncio.timeout(timeout_seconds), self._asking:
                if (kept := self._kept) is not None or self._token is None:
                    return kept or _NOTHING
                return self._keep(await _result_of(self._token))
        except TimeoutError as error:
            raise _late(timeout_seconds) from error


def check_secret(field: str, secret: str) -> str:
    """Return an API key or token; refuse one that no header can carry. The error does not show it."""
    if not isinstance(secret, str):
        raise invalid(field, f"expected a text, got {type(secret).__name__}")
    if not secret:
        raise invalid(field, "is empty; give the whole credential, or leave it out")
    if not secret.isascii():
        raise invalid(field, "has characters that are not ASCII; give the credential as it was issued")
    if "\n" in secret or "\r" in secret:
        raise invalid(field, "has a line break, as if read from a file; remove it with .strip()")
    if not re.fullmatch(r"[!-~]+", secret):
        raise invalid(field, "has a space or control character; give the credential alone, without 'Bearer'")
    return secret


def _metadata(secret: str | None) -> Metadata:
    return _NOTHING if secret is None else (("authorization", f"Bearer {secret}"),)


async def _result_of(token: AsyncToken) -> Any:
    try:
        result = token()
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        raise _failed(error) from error


def _failed(error: Exception) -> Unauthenticated:
    return Unauthenticated(f"token: the function raised {type(error).__name__}", Reason.CREDENTIAL_MISSING)


def _late(timeout_seconds: float | None) -> DeadlineExceeded:
    error = DeadlineExceeded(f"token: the function gave none within {timeout_seconds:g} s")
    error.outcome_unknown = False
    return error
