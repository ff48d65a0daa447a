"""The planner's rules, request by request, without Redis or tensors."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.described import described, region

from statecast.model import Zone
from statecast.service.engine.plan import MAX_STEPS_A_SESSION, Answer, Plan, Planner
from statecast.service.engine.request import Fork, Opening, Request
from statecast.service.engine.session_loading import Gone
from statecast.service.engine.standing import Seed, Standing
from statecast.service.errors import (
    AlreadyExists,
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    Overloaded,
    PreconditionFailed,
    RequestOutdated,
    ServiceError,
    SessionRegressed,
    VersionMismatch,
)
from statecast.service.models.registry import Registry
from statecast.service.store.record import REMEMBERED_REQUESTS
from statecast.service.version import START, Version, chain
from statecast.v1.reasons import Reason

HOUR_NS = 3_600_000_000_000
PLAIN = described("plain")
HOURLY = described("hourly", frequency="h")
REGIONAL = described("regional", categories=region("north", "south"))
PLANNER = Planner(Registry([PLAIN, HOURLY, REGIONAL], "plain"), default_ttl_ms=60_000, max_steps=100, now=lambda: 0)
OPEN = Opening()


def observe(*values: float, **fields: Any) -> Request:
    return Request("s", values=np.array(values, np.float64), **fields)


def standing_after(*requests: Request, start: Standing | None = None) -> Standing:
    plan = PLANNER.plan(start, requests)
    assert all(isinstance(each, Answer) for each in plan.decisions), plan.decisions
    assert plan.standing is not None
    return plan.standing


def answer(plan: Plan, at: int = -1) -> Answer:
    decision = plan.decisions[at]
    assert isinstance(decision, Answer), decision
    return decision


def refusal(standing: Standing | None, request: Request, kind: type[ServiceError], **options: Any) -> ServiceError:
    plan = PLANNER.plan(standing, [request], **options)
    (decision,) = plan.decisions
    assert type(decision) is kind, decision
    # A refused request leaves nothing in the plan.
    assert (plan.steps, plan.entries, plan.standing, plan.opened) == (0, [], standing, False)
    return decision


def test_observations_are_chained_in_order() -> None:
    plan = PLANNER.plan(None, [observe(1, opening=OPEN), observe(2, 3), observe(horizon=2)])
    assert [answer(plan, at).steps for at in range(3)] == [1, 3, 3]
    assert [answer(plan, at).opened for at in range(3)] == [True, False, False]
    assert [len(entry.rows) for entry in plan.entries] == [1, 2]
    first = chain(START, np.array([[1.0]]), None)
    assert answer(plan, 2).standing.version == chain(first, np.array([[2.0], [3.0]]), None)
    assert (plan.steps, plan.opened, plan.closed) == (3, True, False)


def test_a_session_that_is_opened_gets_what_was_asked_for() -> None:
    zone = Zone.parse("Europe/Berlin")
    opening = Opening("regional", ttl_ms=5, categories={"region": "east"}, zone=zone, max_ahead_ms=7)
    standing = standing_after(observe(opening=opening))
    assert (standing.model, standing.ttl_ms, standing.categories) == (REGIONAL, 5, {"region": "east"})
    assert (standing.zone, standing.max_ahead_ms) == (zone, 7)
    assert standing_after(observe(opening=OPEN)).ttl_ms == 60_000


def test_a_session_that_does_not_exist_is_not_found() -> None:
    assert refusal(None, observe(1), NotFound).reason is Reason.SESSION_NOT_FOUND
    seen = Version(3, 7)
    lost = refusal(None, observe(1, opening=OPEN, last_seen=seen), NotFound)
    assert isinstance(lost, NotFound)
    assert lost.was_seen
    for reason in (Reason.SESSION_CLOSED, Reason.SESSION_EXPIRED):
        gone = refusal(None, observe(1), NotFound, gone=Gone(reason, seen))
        assert gone.reason is reason
        assert str(seen) in gone.message


def test_open_resumes_a_session_of_the_same_model_and_categories() -> None:
    standing = standing_after(observe(1, opening=Opening("regional", categories={"region": "north"})))
    same = Opening("regional", "1", categories={"region": "north"})
    assert not answer(PLANNER.plan(standing, [observe(2, opening=same)])).opened
    answer(PLANNER.plan(standing, [observe(2, opening=OPEN)]))
    other = refusal(standing, observe(2, opening=Opening("plain")), PreconditionFailed)
    assert other.reason is Reason.OTHER_MODEL
    south = refusal(standing, observe(2, opening=Opening(categories={"region": "south"})), PreconditionFailed)
    assert south.reason is Reason.OTHER_CATEGORIES


def test_a_repeated_request_is_applied_once() -> None:
    request = observe(1, opening=OPEN, request_id=b"a")
    plan = PLANNER.plan(None, [request, request, observe(2)])
    assert [answer(plan, at).replayed for at in range(3)] == [False, True, False]
    assert plan.steps == 2
    later = PLANNER.plan(plan.standing, [request])
    assert answer(later).replayed
    assert not later.entries


@pytest.mark.parametrize(
    "other",
    [
        observe(2, request_id=b"a"),
        observe(1, 1, request_id=b"a"),
        observe(1, request_id=b"a", times=np.array([5], np.int64)),
        observe(1, request_id=b"a", start_time=5),
    ],
)
def test_an_id_stands_for_one_content(other: Request) -> None:
    standing = standing_after(observe(1, opening=OPEN, request_id=b"a"))
    refused = refusal(standing, other, InvalidRequest)
    assert refused.reason is Reason.REQUEST_ID_REUSED


def test_a_request_that_may_be_forgotten_is_refused() -> None:
    standing = standing_after(observe(0, opening=OPEN))
    before = standing.version
    for number in range(REMEMBERED_REQUESTS + 1):
        standing = standing_after(observe(number, request_id=bytes([number])), start=standing)
    outdated = refusal(standing, observe(7, request_id=b"old", last_seen=before), RequestOutdated)
    assert isinstance(outdated, RequestOutdated)
    assert outdated.current == standing.version
    # A request that appends nothing, or has no id, cannot be applied twice by mistake.
    answer(PLANNER.plan(standing, [observe(horizon=1, request_id=b"old", last_seen=before)]))


def test_a_session_that_lacks_what_was_seen_has_regressed() -> None:
    standing = standing_after(observe(1, opening=OPEN))
    for seen in (Version(2, 99), Version(1, standing.version.tag ^ 1)):
        refused = refusal(standing, observe(2, last_seen=seen), SessionRegressed)
        assert isinstance(refused, SessionRegressed)
        assert refused.current == standing.version
    answer(PLANNER.plan(standing, [observe(2, last_seen=standing.version)]))
    answer(PLANNER.plan(standing, [observe(2, last_seen=START)]))


def test_if_version_must_hold() -> None:
    standing = standing_after(observe(1, opening=OPEN))
    answer(PLANNER.plan(standing, [observe(2, if_version=standing.version)]))
    refusal(standing, observe(2, if_version=START), VersionMismatch)
    refusal(standing, Request("s", close=True, if_version=START), VersionMismatch)


def test_a_close_ends_the_session() -> None:
    standing = standing_after(observe(1, opening=OPEN))
    plan = PLANNER.plan(standing, [Request("s", close=True)])
    assert answer(plan).standing == standing
    assert (plan.closed, plan.standing) == (True, None)


def test_a_fork_begins_as_its_source_and_only_once() -> None:
    seed = Seed(standing_after(observe(1, opening=OPEN, request_id=b"x")), b"state")
    asked = Request("copy", fork=Fork("s", seed, ttl_ms=9), request_id=b"f")
    plan = PLANNER.plan(None, [asked])
    made = plan.standing
    assert made is not None
    assert (made.version, made.ttl_ms, plan.seed, plan.opened) == (seed.standing.version, 9, seed, True)
    assert answer(PLANNER.plan(made, [asked])).replayed
    refusal(made, replace(asked, request_id=b"g"), AlreadyExists)
    refusal(None, Request("copy", fork=Fork("s")), NotFound)


def test_what_must_be_alone_is_alone() -> None:
    with pytest.raises(ValueError, match="alone"):
        PLANNER.plan(None, [observe(1, opening=OPEN), Request("s", close=True)])


def test_a_late_request_is_not_carried_out() -> None:
    refusal(None, observe(1, opening=OPEN, deadline=time.monotonic() - 1), DeadlinePassed)
    answer(PLANNER.plan(None, [observe(1, opening=OPEN, deadline=time.monotonic() + 60)]))


def test_steps_between_times_are_missing() -> None:
    first = observe(1, opening=Opening("hourly"), start_time=0)
    times = np.array([3, 6], np.int64) * HOUR_NS
    plan = PLANNER.plan(None, [first, observe(2, 3, times=times)])
    second = answer(plan, 1)
    assert (second.appended, second.missing, second.taken) == (6, 4, 2)
    assert second.given is not None
    assert second.given.tolist() == [2, 5]
    assert second.standing.last_time == 6 * HOUR_NS


def test_times_need_a_frequency_and_one_way_to_give_them() -> None:
    assert "no frequency" in refusal(None, observe(1, opening=OPEN, start_time=0), InvalidRequest).message
    both = observe(1, opening=Opening("hourly"), start_time=0, times=np.array([0], np.int64))
    assert "leave out one" in refusal(None, both, InvalidRequest).message
    backwards = observe(1, 2, opening=OPEN, times=np.array([2, 1], np.int64))
    assert "not later" in refusal(None, backwards, InvalidRequest).message


def test_gaps_of_a_session_in_one_batch_are_bounded_and_nothing_overtakes() -> None:
    planner = Planner(Registry([HOURLY], "hourly"), 60_000, max_steps=30_000, now=lambda: 0)
    opening = Opening(max_ahead_ms=0)
    far = [observe(1, opening=opening, start_time=at * 25_000 * HOUR_NS) for at in range(3)]
    plan = planner.plan(None, [*far, observe(2)])
    assert [type(each) for each in plan.decisions] == [Answer, Answer, Overloaded, Overloaded]
    assert plan.steps == 25_001 <= MAX_STEPS_A_SESSION


def test_a_bug_fails_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    standing = standing_after(observe(1, opening=OPEN))
    monkeypatch.setattr(
        "statecast.service.engine.plan._check_known", lambda _, request: 1 / request.values.size and None
    )
    plan = PLANNER.plan(standing, [observe(horizon=1), observe(2)])
    assert isinstance(plan.decisions[0], ZeroDivisionError)
    assert isinstance(plan.decisions[1], Answer)
