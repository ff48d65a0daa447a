"""A limit to the memory of open calls: their headers, and messages that have arrived in part."""

from statecast.service.engine.admission import SHARE
from statecast.service.errors import Overloaded
from statecast.v1.reasons import Reason


class Arriving:
    """Bytes that open calls hold, by caller. As in the queue, each caller has a share. Not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._total = 0
        self._by_caller: dict[str, int] = {}

    def change(self, caller: str, nbytes: int) -> None:
        """Account for so many bytes more, or fewer if negative.

        Raises:
            Overloaded: if the caller may not have more; nothing is accounted for then.
        """
        own = self._by_caller.get(caller, 0)
        if nbytes > 0 and own + nbytes > SHARE * (self._max_bytes - self._total - nbytes):
            raise Overloaded(
                f"open calls hold {self._total / 2**20:.1f} MiB, {own / 2**20:.1f} MiB of them on this connection; "
                "nothing was appended. Send the same request again later, and fewer or smaller ones at once.",
                Reason.QUEUE_FULL,
            )
        self._total += nbytes
        self._by_caller[caller] = own + nbytes
        if not self._by_caller[caller]:
            del self._by_caller[caller]
