"""Decides each request of a session, in order and without touching a tensor: refuse, replay or append."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from statecast.service.engine.clock import Bounds, Given, Placed, check_order, place
from statecast.service.engine.request import ENDED_TTL_MS, Entrance, Fork, Request, Upgrade
from statecast.service.engine.request_checks import (
    check_categories,
    check_forecast,
    check_gap,
    check_same,
    own_frequency,
    rows_of,
)
from statecast.service.engine.session_loading import Gone, Move
from statecast.service.engine.standing import Seed, Standing
from statecast.service.errors import (
    AlreadyExists,
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    Overloaded,
    RequestOutdated,
    ServiceError,
    SessionRegressed,
    VersionMismatch,
    quoted,
    read_only,
)
from statecast.service.models.registry import Registry
from statecast.service.store.options import DIGEST_BYTES
from statecast.service.store.record import REMEMBERED_REQUESTS, Entry
from statecast.service.version import START, Version, chain
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

MAX_STEPS_A_SESSION = 49_152
"""Limit for one session in one batch, which only gaps in time can reach."""
SESSIONS_AGAIN_SECONDS = 60.0
"""Retry delay for a tenant that has all the sessions that it may have."""
OPEN_IT = "open it to begin a new one"
_RESTARTS, _ENDS = b"restarts\n", b"ends\n"
"""Marks of requests in their digests; those of others begin with a number or None."""


@dataclass(slots=True)
class Answer:
    """A request that will be carried out: the session's standing after it, `steps` steps into the plan.

    The last `appended` of those steps are the request's, `missing` of them without an observation. `given` holds the
    positions of the others, int64 [rows]; None if they are the last ones.
    """

    standing: Standing
    steps: int
    appended: int = 0
    missing: int = 0
    given: NDArray[np.int64] | None = None
    opened: bool = False
    replayed: bool = False

    @property
    def taken(self) -> int:
        """Number of observations that the request appends."""
        return self.appended - self.missing


Decision = Answer | Exception


@dataclass(slots=True)
class Plan:
    """The decisions for one session in a batch, which append `steps` time steps; with a seed it starts as a copy.

    If it is `opened`, it begins, whether or not a session of that name exists. `move` says if it comes to stand on
    another model.
    """

    standing: Standing | None
    gone: Gone | None = None
    move: Move | None = None
    decisions: list[Decision] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    steps: int = 0
    opened: bool = False
    closed: bool = False
    ended: bool = False
    seed: Seed | None = None
    turned_away: Overloaded | None = None


class Planner:
    """Applies the rules for opening, exactly-once, shape and time."""

    def __init__(
        self, registry: Registry, default_ttl_ms: int, max_steps: int, now: Callable[[], int] = time.time_ns
    ) -> None:
        """Decide by the models in `registry`; `now` returns nanoseconds since 1970."""
        self._registry = registry
        self.now = now
        self._default_ttl_ms = default_ttl_ms
        self._max_steps = max_steps

    def plan(
        self,
        standing: Standing | None,
        requests: Sequence[Request],
        gone: Gone | None = None,
        move: Move | None = None,
    ) -> Plan:
        """Decide the session's requests in order, from its `standing` (None: it does not exist; `gone` may say why).

        The standing is that after its `move`, if there is one. It is not changed. A request that `goes_alone` is the
        only one.
        """
        if len(requests) > 1 and any(request.goes_alone for request in requests):
            raise ValueError("a request that closes, copies, forks, moves, ends or restarts a session must come alone")
        plan = Plan(standing, gone, move)
        for request in requests:
            try:
                decision: Decision = self._decide(plan, request)
            except ServiceError as error:
                decision = error.with_traceback(None)  # its traceback would refer back to this plan
            except Exception as error:  # a bug; fail this request alone
                log.exception("a request could not be planned")
                decision = error
            plan.decisions.append(decision)
        return plan

    def _decide(self, plan: Plan, request: Request) -> Answer:
        """Decide one request; the plan changes only if the request is valid."""
        if request.deadline is not None and request.deadline <= time.monotonic():
            # The caller may have retried it on another replica, long ago if this one was paused.
            raise DeadlinePassed(
                "the deadline has passed; nothing was appended. Send the same request with a longer deadline.",
                Reason.DEADLINE_PASSED,
            )
        if plan.turned_away:  # no request may overtake an earlier one
            raise plan.turned_away
        if (answer := _copy_or_move(plan, request)) is not None:
            return answer
        standing = self._enter(plan, request)
        begins, opened = standing is not plan.standing, plan.standing is None
        _check_seen(standing, request)
        if request.close:
            _check_version(standing, request)
            plan.closed, plan.standing = True, None
            return Answer(standing, plan.steps)
        if request.up_to_horizon:
            request.horizon = min(request.horizon, standing.model.config.horizon)
        check_forecast(standing.model, request)
        digest = digest_of(request) if request.request_id else b""
        if digest and _is_replay(standing, request, digest):
            return Answer(standing, plan.steps, replayed=True)
        _check_known(standing, request)
        _check_version(standing, request)
        placed, entry = self._append(standing, request, digest)
        if entry and plan.entries and plan.steps + entry.steps > MAX_STEPS_A_SESSION:
            plan.turned_away = Overloaded(
                "the gaps in time before the session's observations add up to too many steps; nothing was appended. "
                "Send fewer observations at once.",
                Reason.QUEUE_FULL,
            )
            raise plan.turned_away
        if entry:
            plan.entries.append(entry)
            plan.steps += entry.steps
            standing = standing.after(entry)
        if request.ends:
            standing = standing.to_its_end(min(standing.ttl_ms, ENDED_TTL_MS))
        plan.standing = standing
        plan.opened |= begins
        plan.ended = request.ends
        appended = len(placed.rows)
        missing = appended - request.values.size // standing.model.targets
        return Answer(standing, plan.steps, appended, missing, placed.given, opened=opened)

    def _enter(self, plan: Plan, request: Request) -> Standing:
        """Return the existing session, or a new one if the request begins it."""
        opening, standing = request.opening, plan.standing
        is_repeated = standing is not None and request.request_id in standing.recent
        if standing is None or (request.restarts and not is_repeated):
            if opening is None or opening.entrance is Entrance.RESUME or has_seen(request):
                raise _not_found(plan, request)
            if not request.may_open:
                raise read_only(f"open session {quoted(request.session_id)}, which does not exist")
            if request.is_full and standing is None:
                raise _no_more_sessions(request)
            registry, alias = self._registry, opening.alias
            name = opening.model or registry.default
            model = registry.at_alias(name, alias) if alias else registry.get(name, opening.model_version)
            check_categories(model, opening)
            ttl_ms = opening.ttl_ms or self._default_ttl_ms
            return Standing(
                START, None, ttl_ms, categories=opening.categories, max_ahead_ms=opening.max_ahead_ms, model=model,
                zone=opening.zone, own_frequency=own_frequency(model, opening),
                binding=registry.binding(name, opening.model_version, alias),
            )  # fmt: skip
        if standing.ended and not is_repeated:
            raise _has_ended(standing, request)
        if opening:
            if opening.upgrade and plan.move is not None and plan.move.refused is not None:
                raise plan.move.refused
            check_same(standing, opening, request.session_id)
        return standing

    def _append(self, standing: Standing, request: Request, digest: bytes) -> tuple[Placed, Entry | None]:
        rows, clock = rows_of(standing.model, request, self._max_steps), standing.clock
        if request.start_time is not None and request.times.size:
            raise InvalidRequest("observations.times", "given together with start_time; leave out one of the two")
        if clock:
            ahead_ms = clock.usual_max_ahead_ms if standing.max_ahead_ms is None else standing.max_ahead_ms
            bounds = Bounds(self._max_steps, standing.model.usual_horizon, self.now(), ahead_ms)
            placed = place(rows, Given(request.start_time, request.times), standing.last_time, clock, bounds)
            check_gap(standing.model, request, len(placed.rows), clock.frequency.alias)
        elif request.start_time is not None:
            raise InvalidRequest(
                "observations.start_time",
                f"{standing.model} declares no frequency, so only position counts; leave start_time out, or open the "
                "session with a frequency (close it first if it exists)",
            )
        else:
            check_order(request.times, len(rows), standing.zone)
            placed = Placed(rows, [])
        rows, times = placed.rows, placed.times
        if not len(rows):
            return placed, None
        version = chain(standing.version, rows, times if clock else None)
        data = rows.astype("<f8", copy=False).tobytes()
        return placed, Entry(len(rows), data, times[-1] if times else None, request.request_id, digest, version)


def _no_more_sessions(request: Request) -> Overloaded:
    return Overloaded(
        f"tenant {request.tenant} has as many sessions as its limit sessions allows; session "
        f"{quoted(request.session_id)} was not opened. Close others, or ask the server's operator for more",
        Reason.QUOTA_EXCEEDED,
        SESSIONS_AGAIN_SECONDS,
    )


def has_seen(request: Request) -> bool:
    """Return True if the request's caller has seen the session before."""
    return request.last_seen not in (None, START)


def _not_found(plan: Plan, request: Request) -> NotFound:
    """Return the error for a session that does not exist, with the reason if it left a trace."""
    if plan.closed or plan.gone is None:
        reason = Reason.SESSION_CLOSED if plan.closed else Reason.SESSION_NOT_FOUND
        if has_seen(request) and not plan.closed:
            message = (
                f"there is no session {quoted(request.session_id)}, although the caller saw it at "
                f"{request.last_seen}: Redis lost it, or it expired long ago; open it and send its history again"
            )
            return NotFound(message, reason, was_seen=True)
        return NotFound(f"there is no session {quoted(request.session_id)}; {OPEN_IT}", reason)
    what = "was closed" if plan.gone.reason is Reason.SESSION_CLOSED else "has expired"
    return NotFound(f"session {quoted(request.session_id)} {what} at {plan.gone.version}; {OPEN_IT}", plan.gone.reason)


def _has_ended(standing: Standing, request: Request) -> NotFound:
    return NotFound(
        f"session {quoted(request.session_id)} has ended at {standing.version}; for up to {ENDED_TTL_MS // 1000} s it "
        "still answers repeated requests, and after that you can open it again",
        Reason.SESSION_CLOSED,
    )


def _copy_or_move(plan: Plan, request: Request) -> Answer | None:
    """Decide a request that starts the session as a copy, or moves it; return None for any other."""
    if request.fork:
        return _fork(plan, request, request.fork)
    return _upgrade(plan, request, request.upgrade) if request.upgrade else None


def _fork(plan: Plan, request: Request, fork: Fork) -> Answer:
    """Start the session as a copy, or find that this request already did."""
    digest = blake2b(b"fork of " + fork.source_id.encode(), digest_size=DIGEST_BYTES).digest()
    if plan.standing:
        if request.request_id and _is_replay(plan.standing, request, digest):
            return Answer(plan.standing, 0, replayed=True)
        raise AlreadyExists(
            f"session {quoted(request.session_id)} exists already; fork under another id, or close it first",
            Reason.SESSION_EXISTS,
        )
    if fork.seed is None:
        raise _not_found(plan, request)
    if request.is_full:
        raise _no_more_sessions(request)
    plan.standing = copied = fork.seed.standing.copy()
    copied.ttl_ms = fork.ttl_ms or copied.ttl_ms
    if request.request_id:
        copied.remember(request.request_id, digest)
    plan.seed, plan.opened = fork.seed, True
    return Answer(copied, 0, opened=True)


def _upgrade(plan: Plan, request: Request, upgrade: Upgrade) -> Answer:
    """Let the session stand on the model on which it was loaded, or find that this request has already moved it."""
    standing, move = plan.standing, plan.move
    if standing is None:
        raise _not_found(plan, request)
    if standing.ended:
        raise _has_ended(standing, request)
    _check_seen(standing, request)
    names = f"{upgrade.model}\n{upgrade.model_version}\n{upgrade.alias}\n{upgrade.since}\n"
    digest = blake2b(b"upgrade\n" + names.encode() + digest_of(request), digest_size=DIGEST_BYTES).digest()
    known = standing.upgrades.get(request.request_id)
    if _is_repeated(standing.recent.get(request.request_id) or (known and known.digest), digest):
        return Answer(standing, plan.steps, replayed=True)
    _check_known(standing, request)
    _check_version(standing, request)
    if move is not None and move.refused is not None:
        raise move.refused
    plan.standing = standing = standing.copy()
    if move is not None and request.request_id:
        standing.remember_upgrade(request.request_id, digest)
    return Answer(standing, plan.steps)


def _check_seen(standing: Standing, request: Request) -> None:
    if request.last_seen is not None and standing.has_lost(request.last_seen):
        raise SessionRegressed(
            f"last_seen: session {quoted(request.session_id)} is at {standing.version} and lacks observations that it "
            f"had acknowledged up to {request.last_seen}: Redis lost them, this is another session of that name, or "
            "the caller rounded the 64-bit tag (JavaScript: longs: String)",
            Reason.SESSION_REGRESSED,
            standing.version,
        )


def _check_known(standing: Standing, request: Request) -> None:
    """Refuse a request whose earlier attempt may be forgotten, rather than apply it twice."""
    if request.last_seen is None or not request.request_id or not (request.values.size or request.upgrade):
        return
    if not standing.remembers_since(request.last_seen):
        raise RequestOutdated(
            f"last_seen: session {quoted(request.session_id)} has taken more than {REMEMBERED_REQUESTS} requests since "
            f"{request.last_seen}, so it no longer knows whether this one was among them; it is at {standing.version}",
            Reason.REQUEST_OUTDATED,
            standing.version,
        )


def elsewhere(current: Version, if_version: Version) -> VersionMismatch:
    """Return the error for a request whose `if_version` does not hold."""
    message = f"if_version: the session is at {current}, not at {if_version}"
    return VersionMismatch(message, Reason.VERSION_MISMATCH, current)


def _check_version(standing: Standing, request: Request) -> None:
    if request.if_version is not None and request.if_version != standing.version:
        raise elsewhere(standing.version, request.if_version)


def digest_of(request: Request) -> bytes:
    """Return the digest of what a request appends, by which a repetition is told from another request."""
    values, times, start_time = request.values, request.times, request.start_time
    start, content = _start(start_time, values.size), values.tobytes()
    if times.size:  # their length comes first, too
        start = f"{start_time} {values.size} {times.size}\n".encode() + times.tobytes()
    start = (_RESTARTS if request.restarts else b"") + (_ENDS if request.ends else b"") + start
    content += request.covariates.tobytes()
    return blake2b(start + content, digest_size=DIGEST_BYTES).digest()


def digest_of_values(start_time: int | None, count: int, values: bytes) -> bytes:
    """Return the digest of a request that appends values and has nothing else to tell apart, as `digest_of` does."""
    return blake2b(_start(start_time, count) + values, digest_size=DIGEST_BYTES).digest()


@lru_cache(maxsize=1024)
def _start(start_time: int | None, count: int) -> bytes:
    """Return what comes first, so that times, values and covariates cannot be confused."""
    return f"{start_time} {count}\n".encode()


def _is_replay(standing: Standing, request: Request, digest: bytes) -> bool:
    return _is_repeated(standing.recent.get(request.request_id), digest)


def _is_repeated(known: bytes | None, digest: bytes) -> bool:
    """Return True if the digest that is known by a request's id is that of the request."""
    if known is None:
        return False
    if known != digest:
        raise InvalidRequest(
            "request_id",
            "the session has already taken another request under this id; give a new request a new id",
            Reason.REQUEST_ID_REUSED,
        )
    return True
