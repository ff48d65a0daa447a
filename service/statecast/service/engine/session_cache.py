"""Cached sessions: each one's standing and recurrent state, kept on the device between batches.

A cached session may be stale if another replica has moved it on; its stamp reveals that at commit.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import islice
from threading import RLock

import torch

from statecast.model import State
from statecast.service.engine.session_loading import Loaded
from statecast.service.models.registry import Model

_FIRST_ROWS = 64


class StatePool:
    """Rows of one model's session states: one tensor per part, grown as needed."""

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
        return self._state.select(torch.tensor(rows, device=self._model.forecaster.device))

    def write(self, rows: list[int], state: State) -> None:
        """Write `state`, one session per row, into `rows`."""
        index = torch.tensor(rows, device=self._model.forecaster.device)
        for name, part in self._state.parts.items():
            part.index_copy_(0, index, state.parts[name])


class SessionCache:
    """A thread-safe cache of sessions that drops the least recently used beyond `capacity`.

    A session in a batch stays until the batch is over, so that its row is not reused.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sessions: OrderedDict[str, Loaded] = OrderedDict()
        self._pools: dict[str, StatePool] = {}
        self._in_batches: set[str] = set()
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: str) -> Loaded | None:
        """Return the session, if it is cached, and pin it until `let_go`."""
        with self._lock:
            session = self._sessions.get(key)
            if session is not None:
                self._sessions.move_to_end(key)
                self._in_batches.add(key)
            return session

    def let_go(self, keys: Iterable[str]) -> None:
        """Unpin sessions at the end of their batch."""
        with self._lock:
            self._in_batches.difference_update(keys)

    def read(self, model: Model, rows: list[int]) -> State:
        """Return the states of the model's sessions in `rows`."""
        with self._lock:
            return self._pool(model).read(rows)

    def keep(self, model: Model, sessions: Mapping[str, Loaded], states: State) -> None:
        """Cache sessions of one model and their states, one row each in the same order; assigns their rows."""
        with self._lock:
            pool = self._pool(model)
            # Drop them while their rows are written: a failure must not leave an old state under a new stamp.
            for key in sessions:
                self.drop(key)
            rows: list[int] = []
            try:
                rows.extend(pool.claim() for _ in sessions)
                pool.write(rows, states)
            except BaseException:
                for row in rows:
                    pool.release(row)
                raise
            for row, session in zip(rows, sessions.values(), strict=True):
                session.row = row
            self._sessions.update(sessions)
            excess = len(self._sessions) - self._capacity
            if excess > 0:
                idle = (key for key in self._sessions if key not in self._in_batches)
                for key in list(islice(idle, excess)):
                    self.drop(key)

    def drop(self, key: str) -> None:
        """Forget a session, if it is cached."""
        with self._lock:
            session = self._sessions.pop(key, None)
            if session and session.standing and session.row is not None:
                self._pool(session.standing.model).release(session.row)

    def _pool(self, model: Model) -> StatePool:
        pool = self._pools.get(model.digest)
        if pool is None:
            pool = self._pools[model.digest] = StatePool(model)
        return pool
