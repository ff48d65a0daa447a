"""The batch as a table: a row for each session, and columns that each stage of the engine fills for the next."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from statecast.service.engine.request import Request, Result
from statecast.service.engine.session_loading import Gone, Loaded, Move
from statecast.service.engine.standing import Session
from statecast.service.store.record import Entry
from statecast.service.store.redis_store import Commit, Verdict

if TYPE_CHECKING:
    from statecast.service.engine.advance import Computed
    from statecast.service.engine.plan import Plan

Requests = Mapping[str, Sequence[Request]]
Results = dict[str, list[Result]]
NO_ENTRIES: Sequence[Entry] = ()


class Table:
    """A batch. All columns have one element for each session, in the same order.

    Attributes:
        keys, requests: Each session's key and its requests.
        sessions: Sessions in memory; None for those that do not exist (yet).
        stamps: Stamp of each record, empty without one.
        gone: Traces of sessions that were closed or have expired.
        cold: What was read from Redis for this batch, by row; not a column.
        moves: What became of the sessions that were to move to another model, by row; not a column.
        plans: Decisions of the planner; None for a steady row.
        entries: What the requests append.
        steps: Number of time steps that they append, missing ones included.
        states: Each session's place in what was computed; None if its state was not needed.
        computed: What was computed, for any number of sessions at once; not a column.
        commits: What is to be written or compared; None for nothing.
        verdicts: What became of it.
        failed: Errors of sessions that could not be loaded, planned, computed or committed; their rows are left out
            from then on.
    """

    def __init__(self, batch: Requests) -> None:
        """Begin with what is asked."""
        self.keys = list(batch)
        self.requests = list(batch.values())
        count = len(self.keys)
        self.sessions: list[Session | None] = [None] * count
        self.stamps: list[bytes] = [b""] * count
        self.gone: list[Gone | None] = [None] * count
        self.cold: dict[int, Loaded] = {}
        self.moves: dict[int, Move] = {}
        self.plans: list[Plan | None] = [None] * count
        self.entries: list[Sequence[Entry]] = [NO_ENTRIES] * count
        self.steps = [0] * count
        self.states: list[tuple[Computed, int] | None] = [None] * count
        self.computed: list[Computed] = []
        self.commits: list[Commit | None] = [None] * count
        self.verdicts: list[Verdict] = [Verdict.DONE] * count
        self.failed: dict[int, list[Result]] = {}

    @property
    def rows(self) -> Iterable[int]:
        """The rows that have not failed."""
        if not self.failed:
            return range(len(self.keys))
        return [row for row in range(len(self.keys)) if row not in self.failed]

    def is_moving(self, row: int) -> bool:
        """Return True if the session comes to stand on another model: it can, and a request of it is carried out."""
        move, plan = self.moves.get(row), self.plans[row]
        if move is None or move.refused is not None:
            return False
        return plan is None or not all(isinstance(decision, Exception) for decision in plan.decisions)

    def fail(self, row: int, error: Exception) -> None:
        """End all requests of a session with an error."""
        self.failed[row] = [error] * len(self.requests[row])
