"""Hot sessions: where each stands and its recurrent state, kept on the device between batches.

A copy here may be stale when another replica has moved the session on; the stamp tells at commit.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from statecast.model import State
from statecast.service.engine.standing import Standing
from statecast.service.registry import Model

_FIRST_ROWS = 64


class Kept(NamedTuple):
    """A session in step with its record: the record's newest stamp, and how many steps lie behind its snapshot."""

    standing: Standing
    stamp: bytes
    steps_since_snapshot: int


@dataclass(frozen=True, slots=True)
class HotSession:
    """A session in memory; its state is in `row` of its model's pool."""

    standing: Standing
    stamp: bytes
    steps_since_snapshot: int
    row: int


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


class HotSessions:
    """The sessions kept in memory, the least recently used of more than `capacity` dropped."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sessions: OrderedDict[str, HotSession] = OrderedDict()
        self._pools: dict[str, StatePool] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, session_id: str) -> HotSession | None:
        """The session, if it is hot."""
        if session_id in self._sessions:
            self._sessions.move_to_end(session_id)
        return self._sessions.get(session_id)

    def read(self, model: Model, rows: list[int]) -> State:
        """The state of that model's sessions in `rows`."""
        return self._pool(model).read(rows)

    def keep(self, sessions: Mapping[str, Kept], states: State) -> None:
        """Keep sessions of one model and their states, a row each in the same order."""
        if not sessions:
            return
        # Out of the books while their rows are written: a failure must not leave an old state under a new stamp.
        for session_id in sessions:
            self.drop(session_id)
        pool = self._pool(next(iter(sessions.values())).standing.model)
        rows: list[int] = []
        try:
            rows.extend(pool.claim() for _ in sessions)
            pool.write(rows, states)
        except BaseException:
            for row in rows:
                pool.release(row)
            raise
        for row, (session_id, session) in zip(rows, sessions.items(), strict=True):
            self._sessions[session_id] = HotSession(*session, row)
        while len(self._sessions) > self._capacity:
            self.drop(next(iter(self._sessions)))

    def drop(self, session_id: str) -> None:
        """Forget a session, if it is hot."""
        if session := self._sessions.pop(session_id, None):
            self._pool(session.standing.model).release(session.row)

    def _pool(self, model: Model) -> StatePool:
        if model.digest not in self._pools:
            self._pools[model.digest] = StatePool(model)
        return self._pools[model.digest]
