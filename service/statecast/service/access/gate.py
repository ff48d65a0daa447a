"""Admits calls: turns the credential of each into a principal, or refuses it."""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from statecast.service.access.api_keys import looks_like_one
from statecast.service.access.key_file import KeyFile
from statecast.service.access.principal import ANYBODY, Principal, Role
from statecast.service.access.throttle import Throttle
from statecast.service.access.tokens import Tokens
from statecast.service.errors import Unauthenticated
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

SCHEME = "Bearer "
REMEMBERED = 10_000
"""Credentials whose principals are remembered."""


class Credentials(Protocol):
    """What a call shows of its caller."""

    def peer(self) -> str:
        """Return the address of the caller's connection."""

    def authorization(self) -> str | None:
        """Return the header `authorization`; None without one."""

    def subject(self) -> str | None:
        """Return the subject of the caller's certificate, as RFC 4514 writes it; None without one."""


class Gate:
    """Decides who may call. Without any method of authentication, that is everybody."""

    def __init__(
        self,
        key_file: KeyFile | None = None,
        tokens: Tokens | None = None,
        subjects: Mapping[str, Principal] | None = None,
        max_wrong: int = 0,
    ) -> None:
        """Admit callers with one of these credentials.

        Args:
            key_file: API keys.
            tokens: Verifies JSON Web Tokens.
            subjects: Principals by the subject of their certificate.
            max_wrong: Wrong credentials a minute from one address, before unknown ones are refused; 0 for any number.
        """
        self._key_file, self._tokens, self._subjects = key_file, tokens, subjects or {}
        self.is_open = not (key_file or tokens or subjects)
        self._known: OrderedDict[bytes, Principal] = OrderedDict()
        self._throttle = Throttle(max_wrong)

    def admit(self, call: Credentials) -> Principal:
        """Return the call's principal.

        Raises:
            Unauthenticated: if its credential is missing, wrong or expired.
            Overloaded: if its address has sent too many wrong ones.
        """
        if self.is_open:
            return ANYBODY
        principal = self._of_header(call) or self._of_certificate(call)
        if principal is None:
            raise Unauthenticated(
                "this server asks for a credential: send an API key or token in the header 'authorization: Bearer ...'",
                Reason.CREDENTIAL_MISSING,
            )
        if refusal := self.refusal(principal):
            raise refusal
        return principal

    def may_read(self, authorization: str | None) -> bool:
        """Return whether a reader of the metrics of all tenants shows a valid credential whose role is admin."""
        if self.is_open or authorization is None:
            return self.is_open
        try:
            principal = self._verified(authorization)
        except Unauthenticated:
            return False
        return principal.role is Role.ADMIN and self.refusal(principal) is None

    def refusal(self, principal: Principal) -> Unauthenticated | None:
        """Return the error for a principal that was admitted and may not go on; None if it may."""
        if principal.expires_at is not None and time.time() >= principal.expires_at:
            return Unauthenticated(
                f"the credential ({principal.name}) has expired; get another one, and send the same request again",
                Reason.CREDENTIAL_EXPIRED,
            )
        if principal.key_id and self._key_file and not self._key_file.holds(principal):
            return Unauthenticated(
                f"the credential ({principal.name}) was revoked; ask the server's operator for another",
                Reason.CREDENTIAL_INVALID,
            )
        return None

    def _of_certificate(self, call: Credentials) -> Principal | None:
        subject = call.subject() if self._subjects else None
        return None if subject is None else self._subjects.get(subject)

    def _of_header(self, call: Credentials) -> Principal | None:
        authorization = call.authorization()
        if authorization is None:
            return None
        digest = hashlib.sha256(authorization.encode("utf-8", "surrogatepass")).digest()
        principal = self._known.get(digest)
        if principal is None:
            address = call.peer().rpartition(":")[0]
            self._throttle.check(address)
            try:
                principal = self._verified(authorization)
            except Unauthenticated as error:
                self._throttle.note(address)
                raise error from None
            self._known[digest] = principal
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return principal

    def _verified(self, authorization: str) -> Principal:
        if authorization[: len(SCHEME)].lower() != SCHEME.lower():
            raise Unauthenticated("authorization: must be 'Bearer ' and an API key or token", Reason.CREDENTIAL_INVALID)
        token = authorization[len(SCHEME) :].strip()
        if self._tokens and not looks_like_one(token):
            return self._tokens.find(token)
        principal = self._key_file.find(token) if self._key_file else None
        if principal is None:
            kinds = [*(["an API key"] if self._key_file else []), *(["a token"] if self._tokens else [])]
            what = f"not {' or '.join(kinds)} that this server knows" if kinds else "not taken: only certificates are"
            raise Unauthenticated(f"the credential is {what}; ask the server's operator", Reason.CREDENTIAL_INVALID)
        return principal

    def forget(self) -> None:
        """Verify every credential again: keys have changed."""
        self._known.clear()
