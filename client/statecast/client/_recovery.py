"""Sends observations again that a session has lost because its Redis went back to an older copy."""

import logging

from ._calls import FORECAST, Operation, Patience, exchange
from ._core import SessionCore
from ._replay_buffer import START, Taken
from ._request import Block, Request
from .errors import NotFound, SessionRegressed, StatecastError, VersionMismatch
from .types import Version

log = logging.getLogger("statecast.client")


def restore(core: SessionCore, lost: StatecastError, timeout_seconds: float) -> Operation[None]:
    """Bring the session back to its newest known version; each request may take `timeout_seconds`.

    Raises:
        StatecastError: `lost`, with the reason why this is impossible, or the error of a request.
    """
    at = lost.current if isinstance(lost, SessionRegressed) else START
    missing = None if at is None else core.replay_buffer.since(at)
    if isinstance(lost, SessionRegressed):
        lost.last_seen = core.version
    elif not core.was_opened_here:
        missing = None
    if at is None or missing is None:
        raise _beyond_repair(core, lost)
    log.warning(
        "session %r has lost what was acknowledged after %s: sending %d requests again",
        core.session_id,
        at,
        len(missing),
    )
    if not isinstance(lost, SessionRegressed):
        opening = Request(core.session_id, opening=core.opening)
        yield from exchange(FORECAST, opening, Patience(timeout_seconds))
    for taken in missing:
        if not (yield from _send_again(core, taken, at, lost, timeout_seconds)):
            return  # the caller sends its own request again and learns the session's version
        at = taken.after


def _send_again(
    core: SessionCore, taken: Taken, at: Version, lost: StatecastError, timeout_seconds: float
) -> Operation[bool]:
    """Return True if the session took it; False if data was lost again, or somebody else restores it as well."""
    request = Request(
        core.session_id,
        taken.request_id,
        Block(taken.observations),
        if_version=at,
    )
    try:
        response = yield from exchange(FORECAST, request, Patience(timeout_seconds))
    except VersionMismatch as moved:
        if moved.current is None or core.replay_buffer.since(moved.current) is None:
            raise _beyond_repair(core, lost) from moved
        return False
    except NotFound as vanished:
        if not core.is_lost(vanished):
            raise
        return False
    stands = response.version
    if stands != taken.after and not response.replayed:
        lost.message += f"; sent again, it stands at {stands} where it stood at {taken.after} before"
        lost.args = (lost.message,)
        raise lost
    return True


def _beyond_repair(core: SessionCore, lost: StatecastError) -> StatecastError:
    """Return the error, extended by the reason why the buffer does not help."""
    first = core.replay_buffer.first
    reach = "is empty" if first is None else f"holds nothing but what followed on {first} without others in between"
    lost.message += f"; nothing more was sent again, since the replay buffer {reach}"
    lost.args = (lost.message,)
    return lost
