"""Slows down addresses that send wrong credentials."""

import time
from collections import OrderedDict

from statecast.service.errors import Overloaded
from statecast.v1.reasons import Reason

ADDRESSES = 10_000


class Throttle:
    """Counts wrong credentials by address, each for a while. Not thread-safe."""

    def __init__(self, most: int) -> None:
        """Allow `most` wrong credentials a minute from one address; 0 for any number."""
        self._most = most
        self._seconds = 60 / most if most else 0.0  # for which each counts, one after the other
        self._until: OrderedDict[str, float] = OrderedDict()

    def check(self, address: str) -> None:
        """Check that the address may try a credential that has not been seen to be right.

        Raises:
            Overloaded: if it has sent too many wrong ones.
        """
        wait_seconds = self._until.get(address, 0.0) - time.monotonic() - (self._most - 1) * self._seconds
        if self._most and wait_seconds > 0:
            raise Overloaded(
                f"this address has sent {self._most} wrong credentials within a minute; check yours, then wait",
                Reason.QUOTA_EXCEEDED,
                wait_seconds,
            )

    def note(self, address: str) -> None:
        """Count a wrong credential."""
        self._until[address] = max(self._until.get(address, 0.0), time.monotonic()) + self._seconds
        self._until.move_to_end(address)
        if len(self._until) > ADDRESSES:
            self._until.popitem(last=False)
