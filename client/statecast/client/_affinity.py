"""Which replica a session belongs to, so that its state stays in that replica's memory.

Nothing depends on it but speed: every replica can continue every session.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Generic, TypeVar

from ._bearer import Metadata
from ._request import Frame

R = TypeVar("R")
HEADER = "x-statecast-session"
"""Proxies hash it, to pass the calls of one session to one replica."""
SESSIONS_KEPT = 16_384
"""Number of sessions whose header or replicas are kept, so that they need not be computed for each call."""


def session_of(message: Any) -> str:
    """Return the session by which to choose the replica for a message: the first one of a frame; empty if none."""
    if isinstance(message, Frame):
        return message.session_ids[0] if message.session_ids else ""
    return getattr(message, "source_session_id", "") or getattr(message, "session_id", "")


@lru_cache(maxsize=SESSIONS_KEPT)
def session_header(session_id: str) -> Metadata:
    """Return the header of a session's calls: 16 digits of a hash, since an id may hold any character."""
    if not session_id:
        return ()
    return ((HEADER, hashlib.sha256(session_id.encode()).hexdigest()[:16]),)


def rank(session_id: str, addresses: Iterable[str]) -> list[str]:
    """Return the addresses in the order in which a session prefers them.

    If one goes, only its own sessions move, each to its next address (Thaler and Ravishankar 1998: "Using name-based
    mappings to increase hit rates").
    """
    session = session_id.encode()

    def weight(address: str) -> bytes:
        return hashlib.blake2b(address.encode() + b"\n" + session, digest_size=16).digest()

    return sorted(addresses, key=weight, reverse=True)


class Ring(Generic[R]):
    """Replicas by their addresses, and the first two of each session."""

    def __init__(self, by_address: Mapping[str, R]) -> None:
        self.by_address = by_address
        self.ranked = lru_cache(SESSIONS_KEPT)(self._ranked)

    def _ranked(self, session_id: str) -> tuple[R, ...]:
        return tuple([self.by_address[address] for address in rank(session_id, self.by_address)[:2]])
