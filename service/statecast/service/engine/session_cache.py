"""Cached sessions: where each stands and its recurrent state, kept on the device between batches.

A copy here may be stale when another replica has moved the session on; the stamp tells at commit.
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
    """Rows of state of one model's sessions: one tensor a part, grown as needed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._state = model.forecaster.initial_state(_FIRST_ROWS)
        self._free = list(range(_FIRST_ROWS))

    def claim(self) -> int:
        """A free row."""
        if not self._free:
            rows = self._state.batch_size
            self._state = State.cat([self._state, self._model.forecaster.initial_state(rows)])
            self._free = list(range(rows, 2 * rows))
        return self._free.pop()

    def release(self, row: int) -> None:
        """Give a row back."""
        self._free.append(row)

    def read(self, rows: list[int]) -> State:
        """The state in `rows`, in that order."""
        return self._state.select(torch.tensor(rows, device=self._model.forecaster.device))

    def write(self, rows: list[int], state: State) -> None:
        """Put `state`, one session a row, into `rows`."""
        index = torch.tensor(rows, device=self._model.forecaster.device)
        for name, part in self._state.parts.items():
            part.index_copy_(0, index, state.parts[name])


class SessionCache:
    """The sessions kept in memory, the least recently used of more than `capacity` dropped. For any thread.

    A session that is in a batch stays until the batch is over, so that its row is not given to another meanwhile.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sessions: OrderedDict[str, Loaded] = OrderedDict()
        self._pools: dict[str, StatePool] = {}
        self._in_batches: set[str] = set()
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, session_id: str) -> Loaded | None:
        """The session, if it is cached, for a batch that ends with `let_go`."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is not None:
                self._sessions.move_to_end(session_id)
                self._in_batches.add(session_id)
            return session

    def let_go(self, session_ids: Iterable[str]) -> None:
        """These sessions are not in a batch any more."""
        with self._lock:
            self._in_batches.difference_update(session_ids)

    def read(self, model: Model, rows: list[int]) -> State:
        """The state of that model's sessions in `rows`."""
        with self._lock:
            return self._pool(model).read(rows)

    def keep(self, model: Model, sessions: Mapping[str, Loaded], states: State) -> None:
        """Keep sessions of one model and their states, a row each in the same order; their rows are chosen here."""
        with self._lock:
            pool = self._pool(model)
            # Out of the books while their rows are written: a failure must not leave an old state under a new stamp.
            for session_id in sessions:
                self.drop(session_id)
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
                idle = (session_id for session_id in self._sessions if session_id not in self._in_batches)
                for session_id in list(islice(idle, excess)):
                    self.drop(session_id)

    def drop(self, session_id: str) -> None:
        """Forget a session, if it is cache."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
            if session and session.standing and session.row is not None:
                self._pool(session.standing.model).release(session.row)

    def _pool(self, model: Model) -> StatePool:
        pool = self._pools.get(model.digest)
        if pool is None:
            pool = self._pools[model.digest] = StatePool(model)
        return pool
