"""The last observations of a session that the server acknowledged, in case it loses them."""

from collections import deque
from typing import NamedTuple

from ._request import Block, Request
from ._response import Response
from .types import Version

MAX_NUMBERS = 10_000
START = Version(0, 0)


class Taken(NamedTuple):
    """Observations that the server took, with their request id and the session's version after them."""

    observations: bytes
    numbers: int
    request_id: str
    after: Version


class ReplayBuffer:
    """A bounded buffer of consecutive observations.

    It holds at most `max_requests` requests, with at most 10,000 values and covariates. It must hold the whole history
    since its first version, so it starts again if somebody else has appended in between.
    """

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._first: Version | None = None
        self._taken: deque[Taken] = deque()
        self._numbers = 0

    @property
    def first(self) -> Version | None:
        """The oldest version since which the buffer holds everything; None without one."""
        return self._first

    def note(self, request: Request, response: Response, before: Version | None) -> bool:
        """Record a request that succeeded; `before` is the newest version known when it was sent.

        Returns:
            False if somebody else must have appended since `before`.
        """
        after, block, taken = response.version, request.block, self._taken
        if response.opened:
            before = START
        newest = taken[-1].after if taken else self._first
        if before is not newest and before != newest:
            self.forget(before)
        is_alone = before is None or response.opened or _may_lead(before, after, block, response.missing_steps)
        if before is None or not is_alone:
            self.forget(after)
        elif block.values:
            size = block.values + block.covariates
            taken.append(Taken(block.encoded, size, request.request_id, after))
            self._numbers += size
        while len(taken) > self._max_requests or self._numbers > MAX_NUMBERS:
            oldest = taken.popleft()
            self._first = oldest.after
            self._numbers -= oldest.numbers
        return is_alone

    def forget(self, now: Version | None) -> None:
        """Empty the buffer; the session is at version `now`."""
        self._first = now
        self._taken.clear()
        self._numbers = 0

    def begun_at(self, version: Version) -> "ReplayBuffer":
        """Return an empty buffer of the same size for a session at `version`."""
        replay_buffer = ReplayBuffer(self._max_requests)
        replay_buffer.forget(version)
        return replay_buffer

    def since(self, version: Version) -> list[Taken] | None:
        """Return the observations taken after `version`; None if the buffer does not reach back to it."""
        if version == self._first:
            return list(self._taken)
        for position, taken in enumerate(self._taken):
            if taken.after == version:
                return list(self._taken)[position + 1 :]
        return None


def _may_lead(before: Version, after: Version, block: Block, missing_steps: int) -> bool:
    """Return True if the observations alone may lead from `before` to `after`; else somebody else appended too."""
    steps, values = after.step - before.step - missing_steps, block.values
    if not values:
        return before == after
    # A time step has one value or several. A replay reports no missing steps, so they look like those of others.
    return steps > 0 and values % steps == 0 and block.targets in (0, values // steps)
