"""Runs one batch through load, advance and commit.

The engine is synchronous and knows nothing of gRPC. It answers only what Redis has confirmed. If another replica has
moved a session on, the engine loads it again and plans its requests again.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from statecast.service.engine.advance import Advanced, advance, pack
from statecast.service.engine.batch_times import BatchTimes
from statecast.service.engine.counters import BatchCounters
from statecast.service.engine.job import Job, group, needs_state
from statecast.service.engine.plan import Answer, Plan, Planner, elsewhere
from statecast.service.engine.request import Outcome, Request, Result
from statecast.service.engine.session_cache import SessionCache
from statecast.service.engine.session_loading import Loaded, load, read
from statecast.service.engine.standing import Seed
from statecast.service.engine.write import Write, close_unusable, is_snapshot_due, write
from statecast.service.errors import Overloaded, PreconditionFailed, ServiceError, StoreRefuses, Unavailable
from statecast.service.metrics import Metrics, timed
from statecast.service.models.registry import Registry
from statecast.service.store.record import NONCE_BYTES
from statecast.service.store.redis_store import Store, Stored, Verdict
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
"""Attempts at a batch for sessions that other replicas keep moving on."""
MAX_STEPS_A_BATCH = 131_072
"""Includes gaps in time and entries to replay, which are known only once the sessions are loaded."""
OTHER_DATA = (
    "the session's key in Redis holds other data; the server's operator must delete that key, and give each use of "
    "one Redis its own --namespace"
)

Requests = Mapping[str, Sequence[Request]]
Results = dict[str, list[Result]]


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
        self._registry = registry
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
            self._drop(batch)  # their cached states may be incomplete
            raise
        finally:
            self._cache.let_go(batch)
            self._metrics.cached_sessions.set(len(self._cache))

    def _carry_out(self, batch: Requests) -> Results:
        results: Results = {}
        pending = batch
        for _ in range(MAX_ATTEMPTS):
            done = self._attempt(pending)
            results |= done
            pending = {key: pending[key] for key in pending if key not in done}
            if not pending:
                break
            self._metrics.conflicts.inc(len(pending))
            self._drop(pending)
        else:
            results |= _fail(pending, _contended())
        return results

    def _attempt(self, batch: Requests) -> Results:
        """Return the results of all sessions except those in conflict."""
        try:
            with self.times.phase("load"):
                loaded, results = self._load(batch)
        except (Unavailable, StoreRefuses) as error:
            self._store_is_lost = True
            return _fail(batch, error)
        plans = {key: self._planner.plan(session.standing, batch[key], session.gone) for key, session in loaded.items()}
        for key in _too_long(loaded, plans):
            results[key] = [_turned_away()] * len(batch[key])
            del plans[key]
        with self.times.phase("advance"):
            advanced, failed = self._advance(loaded, plans, batch)
        for key in failed:
            del plans[key]
        writes = self._writes(loaded, plans, advanced)
        with self.times.phase("commit"):
            verdicts = self._commit(writes)
        written = [key for key in writes if verdicts[key] is Verdict.DONE]
        try:
            self._keep(written, writes, plans, advanced)
        except Exception:  # their commit has succeeded, so their requests must, too
            log.exception("the states of %d sessions could not be cached", len(written))
            self._drop(written)
        self._count(written, plans, advanced)
        for key, verdict in verdicts.items():
            if verdict is not Verdict.CONFLICT:
                results[key] = _results(plans[key], batch[key], advanced.get(key), verdict)
        return results | failed

    def _load(self, batch: Requests) -> tuple[dict[str, Loaded], Results]:
        """Return each session from the cache or from Redis, and the results of those that cannot be loaded."""
        loaded = {key: session for key in batch if (session := self._cache.get(key))}
        cold = [key for key in batch if key not in loaded]
        self._metrics.cache_hits.inc(len(loaded))
        self._metrics.cache_misses.inc(len(cold))
        results: Results = {}
        for key, stored in zip(cold, self._read(cold) if cold else [], strict=True):
            try:
                session = loaded[key] = load(key, stored, self._registry)
                if session.standing is not None:
                    self._metrics.sessions_read.labels(*session.standing.model.labels).inc()
            except (PreconditionFailed, Unavailable) as error:
                self._metrics.records_refused.labels(error.reason).inc()
                results[key] = self._unreadable(key, stored, batch[key], error)
        return loaded, results

    def _read(self, keys: Sequence[str]) -> list[Stored | None]:
        with timed(self._metrics.redis_load_seconds):
            return self._store.load(keys)

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
        verdict = self._commit({key: close_unusable(key, stored.data, record)})[key]
        if verdict is Verdict.DONE:
            return [Outcome(version)]
        return [verdict if isinstance(verdict, ServiceError) else _contended()]

    def _advance(
        self, loaded: dict[str, Loaded], plans: dict[str, Plan], batch: Requests
    ) -> tuple[dict[str, Advanced], Results]:
        """Return the new states and forecasts of the sessions that need them, and the results of those that failed."""
        jobs = [
            Job(key, plan.standing.model, _source(loaded[key], plan), plan, batch[key])
            for key, plan in plans.items()
            if plan.standing and needs_state(plan, batch[key])
        ]
        advanced: dict[str, Advanced] = {}
        failed: Results = {}
        for together in group(jobs):
            try:
                advanced |= advance(together, self._cache)
            except Exception as error:
                log.exception("a batch of %d sessions could not be computed", len(together))
                failed |= _fail({job.key: batch[job.key] for job in together}, error)
        return advanced, failed

    def _writes(
        self, loaded: dict[str, Loaded], plans: dict[str, Plan], advanced: dict[str, Advanced]
    ) -> dict[str, Write]:
        """Return the commit of each session."""
        every = self._snapshot_every
        due = [key for key in advanced if is_snapshot_due(loaded[key], plans[key], every)]
        states = dict(zip(due, pack([advanced[key] for key in due]), strict=True))
        nonce = os.urandom(NONCE_BYTES)  # a session is in a batch only once
        return {key: write(key, loaded[key], plan, states.get(key), nonce) for key, plan in plans.items()}

    def _commit(self, writes: dict[str, Write]) -> dict[str, Verdict | ServiceError]:
        """Return the verdict on each session's commit; sessions with nothing to compare are done."""
        verdicts: dict[str, Verdict | ServiceError] = dict.fromkeys(writes, Verdict.DONE)
        commits = [each.commit for each in writes.values() if each.commit]
        try:
            with timed(self._metrics.redis_commit_seconds):
                verdicts |= self._store.commit(commits)
        except (Unavailable, StoreRefuses) as error:
            self._store_is_lost = True
            verdicts |= {commit.key: error for commit in commits}
            self._drop(commit.key for commit in commits)
        return verdicts

    def _keep(
        self, written: list[str], writes: dict[str, Write], plans: dict[str, Plan], advanced: dict[str, Advanced]
    ) -> None:
        """Cache the committed states, all of one computation at once."""
        together: dict[int, dict[str, Loaded]] = {}
        for key in written:
            plan, computed = plans[key], advanced.get(key)
            if plan.closed:
                self._cache.drop(key)
            elif computed and plan.standing:
                done = writes[key]
                kept = Loaded(plan.standing, done.stamp, done.steps_since_snapshot)
                together.setdefault(id(computed.states), {})[key] = kept
        for sessions in together.values():
            first = advanced[next(iter(sessions))]
            rows = [advanced[key].index for key in sessions]
            all_in_order = rows == list(range(first.states.batch_size))
            self._cache.keep(first.model, sessions, first.states if all_in_order else first.states.select(rows))

    def _count(self, written: list[str], plans: dict[str, Plan], advanced: dict[str, Advanced]) -> None:
        try:
            self._counters.count([(plans[key], advanced.get(key)) for key in written])
        except Exception:  # their commit has succeeded, so their requests must, too
            log.exception("a batch of %d sessions could not be counted", len(written))

    def _drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._cache.drop(key)


def _source(loaded: Loaded, plan: Plan) -> Loaded:
    """Return the source of the session's state: its own, or the seed's if it starts as a copy."""
    return replace(loaded, snapshot=plan.seed.state) if plan.seed else loaded


def _too_long(loaded: Mapping[str, Loaded], plans: Mapping[str, Plan]) -> list[str]:
    """Return the sessions whose steps no longer fit into the batch."""
    room = MAX_STEPS_A_BATCH
    beyond = []
    for key, plan in plans.items():
        if room <= 0 and plan.steps:
            beyond.append(key)
        else:
            room -= plan.steps + loaded[key].replayed_steps
    return beyond


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


def _results(
    plan: Plan, requests: Sequence[Request], advanced: Advanced | None, verdict: Verdict | ServiceError
) -> list[Result]:
    """Return one result for each of the session's requests, in order."""
    results: list[Result] = []
    for position, (decision, request) in enumerate(zip(plan.decisions, requests, strict=True)):
        # A failed commit comes first: without it, the decisions may rest on a stale session.
        if isinstance(verdict, ServiceError):
            results.append(verdict)
        elif verdict is Verdict.NOT_A_RECORD:
            results.append(PreconditionFailed(OTHER_DATA, Reason.RECORD_DAMAGED))
        elif isinstance(decision, Exception):
            results.append(decision)
        else:
            results.append(_outcome(position, request, decision, advanced))
    return results


def _outcome(position: int, request: Request, answer: Answer, advanced: Advanced | None) -> Outcome:
    standing = answer.standing
    if advanced is None:
        return Outcome(standing.version, standing, answer.opened, answer.replayed, missing=answer.missing)
    own = advanced.pit[_own_steps(answer)] if answer.taken else None
    return Outcome(
        standing.version,
        standing,
        answer.opened,
        answer.replayed,
        advanced.forecasts.get(position),
        own,
        advanced.gates.get(position),
        answer.missing,
        Seed(standing, pack([advanced])[0]) if request.copy else None,
    )


def _own_steps(answer: Answer) -> slice | NDArray[np.int64]:
    """Return the positions of a request's observations among the plan's steps."""
    if answer.given is None:
        return slice(answer.steps - answer.taken, answer.steps)
    return answer.steps - answer.appended + answer.given


def _fail(batch: Requests, error: Exception) -> Results:
    return {key: [error] * len(requests) for key, requests in batch.items()}
