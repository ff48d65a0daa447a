"""Admits calls: turns the credential of each into a principal, or refuses it."""

import ipaddress
import time
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote

from statecast.service.access.api_keys import looks_like_one
from statecast.service.access.key_file import KeyFile
from statecast.service.access.principal import ANYBODY, Principal, Role
from statecast.service.access.throttle import Throttle
from statecast.service.access.tokens import Tokens
from statecast.service.errors import Overloaded, Unauthenticated
from statecast.v1.reasons import Reason

SCHEME = "Bearer "
METRICS = "metrics"
"""The address of all who read the metrics."""
OWNED_BITS = 64
"""Bits of an IPv6 address that name its owner's network."""


class Credentials(Protocol):
    """The parts of a call that tell who its caller is."""

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
        self._key_file, self._tokens, self._subjects = key_file, tokens, subjects
        self.is_open = key_file is None and tokens is None and subjects is None
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
            principal = self._verified(authorization, None)
        except (Unauthenticated, Overloaded):
            return False
        return principal.role is Role.ADMIN and self.refusal(principal) is None

    def refusal(self, principal: Principal) -> Unauthenticated | None:
        """Return the error for a principal that was admitted and may not go on; None if it may."""
        if principal.expires_at is not None and time.time() >= principal.expires_at:
            return Unauthenticated(
                f"the credential ({principal.name}) has expired; get another one, and send the same request again",
                Reason.CREDENTIAL_EXPIRED,
            )
        if not self._still_holds(principal):
            return Unauthenticated(
                f"the credential ({principal.name}) was revoked; ask the server's operator for another",
                Reason.CREDENTIAL_INVALID,
            )
        return None

    def _still_holds(self, principal: Principal) -> bool:
        """Return whether what vouched for the principal still does."""
        if principal.signer:
            return self._tokens is not None and self._tokens.trusts(principal.signer)
        return not principal.key_id or (self._key_file is not None and self._key_file.holds(principal))

    def _of_certificate(self, call: Credentials) -> Principal | None:
        subject = call.subject() if self._subjects else None
        return self._subjects.get(subject) if self._subjects and subject is not None else None

    def _of_header(self, call: Credentials) -> Principal | None:
        authorization = call.authorization()
        return None if authorization is None else self._verified(authorization, call)

    def _verified(self, authorization: str, call: Credentials | None) -> Principal:
        """Return the principal of a header, right or wrong; wrong ones of a call are counted by its address."""
        if authorization[: len(SCHEME)].lower() != SCHEME.lower():
            raise Unauthenticated("authorization: must be 'Bearer ' and an API key or token", Reason.CREDENTIAL_INVALID)
        token = authorization[len(SCHEME) :].strip()
        principal = self._known(token)
        if principal is not None:
            return principal
        address = network_of(call.peer()) if call else METRICS
        self._throttle.check(address)
        try:
            return self._unknown(token)
        except Unauthenticated as error:
            self._throttle.note(address)
            raise error from None

    def _known(self, token: str) -> Principal | None:
        """Return the principal of an API key, or of a token that was verified before; both are found quickly."""
        if looks_like_one(token):
            return self._key_file.find(token) if self._key_file else None
        return self._tokens.find_verified(token) if self._tokens else None

    def _unknown(self, token: str) -> Principal:
        """Return the principal of a new token, or raise the error for what is none."""
        if self._tokens and not looks_like_one(token):
            return self._tokens.find(token)
        kinds = [*(["an API key"] if self._key_file else []), *(["a token"] if self._tokens else [])]
        what = f"not {' or '.join(kinds)} that this server knows" if kinds else "not taken: only certificates are"
        raise Unauthenticated(f"the credential is {what}; ask the server's operator", Reason.CREDENTIAL_INVALID)


def network_of(peer: str) -> str:
    """Return the address in a connection's name, without its port; of IPv6 the network, which has one owner."""
    host = peer.rpartition(":")[0].removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    try:
        address = ipaddress.ip_address(unquote(host).strip("[]"))
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), OWNED_BITS), strict=False))
