"""Runs one batch, as a table, through the stages load, decide, advance, write, commit and answer.

The engine is synchronous and knows nothing of gRPC. It answers only what Redis has confirmed. If another replica has
moved a session on, the engine loads it again and decides its requests again.
"""

import logging
from collections.abc import Iterable, Sequence

import torch

from statecast.service.engine.advance import advance
from statecast.service.engine.answer import answer
from statecast.service.engine.batch_times import BatchTimes
from statecast.service.engine.counters import BatchCounters
from statecast.service.engine.decide import decide
from statecast.service.engine.keep import keep
from statecast.service.engine.moving import Mover
from statecast.service.engine.plan import Planner, elsewhere
from statecast.service.engine.replay import enter
from statecast.service.engine.request import Outcome, Request, Result
from statecast.service.engine.session_cache import SessionCache
from statecast.service.engine.session_loading import read
from statecast.service.engine.table import Requests, Results, Table
from statecast.service.engine.write import close_unusable, write
from statecast.service.errors import Overloaded, PreconditionFailed, ServiceError, StoreRefuses, Unavailable
from statecast.service.metrics import Metrics, timed
from statecast.service.models.registry import Registry
from statecast.service.shared.documents import Documents
from statecast.service.shared.outlines import Outlines
from statecast.service.store.record import STAMP_BYTES
from statecast.service.store.redis_store import Commit, Store, Stored, Verdict
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
"""Attempts at a batch for sessions that other replicas keep moving on."""
MAX_STEPS_A_BATCH = 131_072
"""Includes gaps in time and entries to replay, which are known only once the sessions are loaded."""
MOST_MOVED_STEPS = 8_192
"""Steps that a batch re-encodes before sessions that only follow a policy stay for now, and move later."""


class Engine:
    """Carries out batches. Not thread-safe."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        cache: SessionCache,
        planner: Planner,
        metrics: Metrics,
        *,
        snapshot_every: int,
    ) -> None:
        self._mover = Mover(registry, Outlines(registry, Documents(store)))
        self._store = store
        self._cache = cache
        self._planner = planner
        self._metrics = metrics
        self._counters = BatchCounters(metrics)
        self.times = BatchTimes(metrics)
        self._snapshot_every = snapshot_every
        self._store_is_lost = False

    @property
    def store_is_lost(self) -> bool:
        """True if Redis failed in the last batch."""
        return self._store_is_lost

    @torch.inference_mode()
    def run(self, batch: Requests) -> Results:
        """Carry out each session's requests in order; every request gets a result."""
        self._metrics.batch_sessions.observe(len(batch))
        self._store_is_lost = False
        self.times.begin()
        try:
            return self._carry_out(batch)
        except BaseException:
            self._drop(batch)  # their states in memory may be incomplete
            raise
        finally:
            self._cache.let_go(batch)
            self._metrics.cached_sessions.set(len(self._cache))

    def _carry_out(self, batch: Requests) -> Results:
        results: Results = {}
        pending = batch
        for _ in range(MAX_ATTEMPTS):
            table = Table(pending)
            self._attempt(table)
            results |= answer(table)
            if len(results) == len(batch):
                return results
            pending = {key: pending[key] for key in pending if key not in results}
            self._metrics.conflicts.inc(len(pending))
            self._drop(pending)
        return results | {key: [_contended()] * len(requests) for key, requests in pending.items()}

    def _attempt(self, table: Table) -> None:
        """Take the table through all stages but the answer; sessions in conflict have none."""
        with self.times.phase("load"):
            self._load(table)
        if not table.rows:
            return
        decide(table, self._planner)
        _turn_away_excess(table)
        with self.times.phase("advance"):
            enter(table, self._cache)
            advance(table, self._cache)
        write(table, self._snapshot_every)
        with self.times.phase("commit"):
            self._commit(table)
        self._drop(table.keys[row] for row in table.moves if _is_in_doubt(table, row))
        try:
            keep(table, self._cache)
        except Exception:  # their commit has succeeded, so their requests must, too
            log.exception("the states of %d sessions could not be kept in memory", len(table.keys))
            self._drop(table.keys)
        try:
            self._counters.count(table)
        except Exception:  # likewise
            log.exception("a batch of %d sessions could not be counted", len(table.keys))

    def _load(self, table: Table) -> None:
        """Fill the columns `sessions`, `stamps` and `gone`, from memory or from Redis."""
        table.sessions = self._cache.find(table.keys)
        for row, session in enumerate(table.sessions):
            if session is not None and self._mover.must_move(session, table.requests[row]):
                table.sessions[row] = None  # what moves is read from its record
        cold = [row for row, session in enumerate(table.sessions) if session is None]
        self._metrics.cache_hits.inc(len(table.keys) - len(cold))
        self._metrics.cache_misses.inc(len(cold))
        if cold:
            self._read(table, cold)
        table.stamps = [
            stamp if session is None else session.stamp
            for session, stamp in zip(table.sessions, table.stamps, strict=True)
        ]

    def _read(self, table: Table, cold: Sequence[int]) -> None:
        """Read sessions from Redis; their states are unpacked once they are needed."""
        try:
            with timed(self._metrics.redis_load_seconds):
                records = self._store.load_each([table.keys[row] for row in cold])
        except (Unavailable, StoreRefuses) as error:
            self._store_is_lost = True
            for row in range(len(table.keys)):
                table.fail(row, error)
            return
        room = MOST_MOVED_STEPS
        for row, stored in zip(cold, records, strict=True):
            if isinstance(stored, ServiceError):
                table.fail(row, stored)
                continue
            try:
                loaded = self._mover.load(table.keys[row], stored, table.requests[row], by_policy=room > 0)
            except ServiceError as error:
                self._metrics.records_refused.labels(error.reason).inc()
                if stored is not None and isinstance(error, PreconditionFailed) and table.requests[row][0].restarts:
                    table.stamps[row] = stored.data[-STAMP_BYTES:]  # what is replaced need not be readable
                    continue
                table.failed[row] = self._unreadable(table.keys[row], stored, table.requests[row], error)
                continue
            table.gone[row], table.stamps[row] = loaded.gone, loaded.stamp
            if loaded.move is not None:
                table.moves[row] = loaded.move
                room -= loaded.move.steps
            if loaded.session is not None:
                table.sessions[row], table.cold[row] = loaded.session, loaded
                self._metrics.sessions_read.labels(*loaded.session.standing.model.labels).inc()

    def _unreadable(
        self, key: str, stored: Stored | None, requests: Sequence[Request], error: ServiceError
    ) -> list[Result]:
        """Return the results of a session whose record cannot be used; closing it, which comes alone, still works."""
        if stored is None or not requests[0].close:
            return [error] * len(requests)
        record = read(key, stored.data)
        version, if_version = record.newest.version if record else None, requests[0].if_version
        if if_version not in (None, version):
            return [elsewhere(version, if_version) if version and if_version else error]
        verdict = self._carried_out([close_unusable(key, stored.data, record)])[key]
        if verdict is Verdict.DONE:
            return [Outcome(version)]
        return [verdict if isinstance(verdict, ServiceError) else _contended()]

    def _commit(self, table: Table) -> None:
        """Fill the column `verdicts`; sessions with nothing to write or compare are done."""
        rows = [row for row in table.rows if table.commits[row]]
        verdicts = self._carried_out([each for row in rows if (each := table.commits[row])])
        for row in rows:
            verdict = verdicts[table.keys[row]]
            if isinstance(verdict, ServiceError):
                # Whatever was decided, it may rest on a session that has moved on.
                table.fail(row, verdict)
                if isinstance(verdict, Unavailable):  # of a node of a cluster: nobody knows whether it was written
                    self._cache.drop(table.keys[row])
            else:
                table.verdicts[row] = verdict

    def _carried_out(self, commits: Sequence[Commit]) -> dict[str, Verdict | ServiceError]:
        """Return the verdict on each session's commit; of those whose outcome is unknown, nothing stays in memory."""
        if not commits:
            return {}
        try:
            with timed(self._metrics.redis_commit_seconds):
                return self._store.commit(commits)
        except (Unavailable, StoreRefuses) as error:
            self._store_is_lost = True
            self._drop(commit.key for commit in commits)
            return {commit.key: error for commit in commits}

    def _drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._cache.drop(key)


def _is_in_doubt(table: Table, row: int) -> bool:
    """Return True if a session in memory may stand on a model on which it does not stand in Redis."""
    return table.moves[row].refused is None and (row in table.failed or table.verdicts[row] is not Verdict.DONE)


def _turn_away_excess(table: Table) -> None:
    """Refuse the sessions whose steps no longer fit into the batch."""
    room = MAX_STEPS_A_BATCH
    for row in table.rows:
        session, steps = table.sessions[row], table.steps[row]
        if room <= 0 and steps:
            table.fail(row, _turned_away())
        else:
            room -= steps + (session.replayed if session is not None and row in table.cold else 0)


def _turned_away() -> Overloaded:
    return Overloaded(
        "the gaps in time of the sessions in this batch add up to too many steps; nothing was appended. Send the same "
        "request again.",
        Reason.QUEUE_FULL,
    )


def _contended() -> Unavailable:
    return Unavailable(
        "other replicas kept writing to the session; nothing was appended. Send the same request again.",
        Reason.CONTENDED,
    )
