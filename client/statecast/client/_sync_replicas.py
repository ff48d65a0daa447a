"""The replicas of a synchronous client."""

import threading
import time

from ._connection import Connection
from ._replicas import RETIRED_SECONDS, Replica, Replicas
from ._target import Name, look_up


class SyncReplicas(Replicas[Replica]):
    """The replicas behind a target. Threads may share them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._lock = threading.Lock()
        self._is_looking = False
        self._closed = threading.Event()

    def close(self) -> None:
        """Close all channels."""
        with self._lock:
            self._closed.set()
        for replica in (self.any, *self._ring.by_address.values()):
            replica.channel.close()

    def _new(self, connection: Connection) -> Replica:
        return Replica(connection.open())

    def _refresh(self) -> None:
        with self._lock:
            if self._is_looking or self._closed.is_set():
                return
            self._looked_at = time.monotonic()
            if self._name is None:
                self._settle([self._listed])
                return
            self._is_looking = True
        threading.Thread(target=self._look_up, args=(self._name,), name="statecast-names", daemon=True).start()

    def _look_up(self, name: Name) -> None:
        try:
            found = look_up(name)
        except (OSError, UnicodeError):
            found = None
        gone: list[Replica] = []
        with self._lock:
            if not self._closed.is_set():
                gone = self._settle(found)
            self._is_looking = False
        if gone:
            self._closed.wait(RETIRED_SECONDS)
        for replica in gone:
            replica.channel.close()
