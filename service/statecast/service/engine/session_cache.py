"""The sessions in memory, and their recurrent states, kept on the device between batches.

A session in memory may be stale if another replica has moved it on; its stamp reveals that at commit.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from threading import RLock

from statecast.model import State
from statecast.service.engine.standing import Session
from statecast.service.models.registry import Model

_FIRST_ROWS = 64


class StatePool:
    """Rows of one model's session states, grown as needed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._state = model.forecaster.initial_state(_FIRST_ROWS)
        self._free = list(range(_FIRST_ROWS))

    def claim(self) -> int:
        """Take a free row."""
        if not self._free:
            rows = self._state.batch_size
            self._state = State.cat([self._state, self._model.forecaster.initial_state(rows)])
            self._free = list(range(rows, 2 * rows))
        return self._free.pop()

    def release(self, row: int) -> None:
        """Return a row to the pool."""
        self._free.append(row)

    def read(self, rows: list[int]) -> State:
        """Return the states in `rows`, in that order."""
        return self._state.select(self._model.tensor(rows))

    def write(self, rows: list[int], state: State) -> None:
        """Write `state`, one session per row, into `rows`."""
        layout = self._model.forecaster.layout
        self._state.rows.index_copy_(0, self._model.tensor(rows), layout.rows_of(state))


class SessionCache:
    """A thread-safe cache of sessions that drops the least recently used beyond `capacity`.

    A session in a batch stays until the batch is over, and no other batch has it. So the batch may change the session
    without a lock; the lock guards the pools and the order.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._pools: dict[str, StatePool] = {}
        self._in_batches: set[str] = set()
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, keys: Iterable[str]) -> list[Session | None]:
        """Return the sessions of a batch that are in memory, and keep them there until `let_go`."""
        with self._lock:
            self._in_batches.update(keys)
            sessions = list(map(self._sessions.get, keys))
            for session in sessions:
                if session is not None:
                    self._sessions.move_to_end(session.key)
            return sessions

    def let_go(self, keys: Iterable[str]) -> None:
        """Let the sessions of a batch be dropped from now on, beginning with the least recently used."""
        with self._lock:
            self._in_batches.difference_update(keys)
            excess = len(self._sessions) - self._capacity
            if excess > 0:
                idle = (key for key in self._sessions if key not in self._in_batches)
                for key in list(islice(idle, excess)):
                    self.drop(key)

    def read(self, model: Model, sessions: Sequence[Session]) -> State:
        """Return a copy of the states of sessions of one model."""
        with self._lock:
            return self._pool(model).read([session.row for session in sessions])

    def write(self, model: Model, sessions: Sequence[Session], states: State) -> None:
        """Keep sessions of one model and their new states; those that are not in memory yet get a row."""
        with self._lock:
            pool = self._pool(model)
            claimed = [session for session in sessions if session.row < 0]
            try:
                for session in claimed:
                    session.row = pool.claim()
                pool.write([session.row for session in sessions], states)
            except BaseException:
                for session in claimed:
                    if session.row >= 0:
                        pool.release(session.row)
                        session.row = -1
                raise
            for session in claimed:
                self.drop(session.key)
                self._sessions[session.key] = session

    def drop(self, key: str) -> None:
        """Forget a session, if it is in memory."""
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is not None:
                self._pool(session.standing.model).release(session.row)
                session.row = -1

    def _pool(self, model: Model) -> StatePool:
        pool = self._pools.get(model.digest)
        if pool is None:
            pool = self._pools[model.digest] = StatePool(model)
        return pool
