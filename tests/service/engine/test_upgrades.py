"""A session that moves to another model keeps what it is, and goes on as one that has had that model all along."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.engines import MakeEngine, assert_close, observe, one, refused, standing, version_of
from support.models import HORIZON, shop_model, symbol_model, tiny_model
from support.redis_process import RedisProcess

from statecast.model import Forecaster, Frequency, StreamingModel
from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Opening, Outcome, Request, Upgrade
from statecast.service.errors import (
    InvalidRequest,
    PreconditionFailed,
    RequestOutdated,
    ServiceError,
    Unavailable,
    VersionMismatch,
)
from statecast.service.models.registry import Model, Registry
from statecast.service.shared.documents import Documents
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Store
from statecast.service.version import Version
from statecast.v1.reasons import Reason

V1, V2 = tiny_model(), tiny_model(version="2", seed=1)
HOURLY = tiny_model("hourly", version="2", seed=1)
VALUES = [float(10 + at % 7) for at in range(40)]
"""More than the window of 24 keeps."""
HOUR = 3_600_000_000_000


def models(*forecasters: StreamingModel) -> Registry:
    every: list[StreamingModel] = [
        V1,
        *forecasters,
        tiny_model("three"),
        tiny_model("hourly"),
        shop_model(),
        symbol_model(),
    ]
    return Registry([Model(each) for each in every], "tiny")


@pytest.fixture
def both() -> Registry:
    return models(V2, HOURLY)


def upgrade(version: str = "2", *values: float, session_id: str = "a", **others: object) -> Request:
    names = {name: others.pop(name) for name in ("model", "alias", "since") if name in others}
    target = Upgrade(model_version=version, **names)  # type: ignore[arg-type]
    return Request(session_id, values=np.array(values), upgrade=target, **others)  # type: ignore[arg-type]


def ask(engine: Engine, request: Request) -> object:
    (result,) = engine.run({request.session_id: [request]})[request.session_id]
    return result


def forecast_of(model: Forecaster, values: list[float]) -> NDArray[np.float32]:
    """Return the model's own forecast after `values`."""
    with torch.inference_mode():
        state = model.advance(model.initial_state(1), torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)).state
        result: NDArray[np.float32] = model.forecast(model.context(state), HORIZON)[0].numpy()
    return result


def filled(
    engine: Engine, values: list[float] = VALUES, session_id: str = "a", first: int = 0, **others: object
) -> Outcome:
    others.setdefault("opening", Opening(model_version="1"))
    last = None
    for at in range(0, len(values), 5):
        request_id = b"%d" % (first + at)
        last = one(engine, observe(session_id, *values[at : at + 5], request_id=request_id, **others))  # type: ignore[arg-type]
    assert last is not None
    return last


def values_of(outcome: Outcome) -> NDArray[np.float32]:
    assert outcome.forecast is not None
    return outcome.forecast.values


NAMES = map("s{}".format, itertools.count())


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(0, 60),
    moved_at=st.integers(0, 60),
    is_exact=st.booleans(),
    snapshot_every=st.sampled_from([1, 7]),
)
def test_it_goes_on_with_the_tags_of_an_uninterrupted_run(
    make_engine: MakeEngine, both: Registry, count: int, moved_at: int, is_exact: bool, snapshot_every: int
) -> None:
    """The new state is that of the new model after the window, or after the whole history."""
    name = next(NAMES)
    engine, other = (make_engine(registry=both, snapshot_every=snapshot_every) for _ in range(2))
    values = [float(10 + at % 7) for at in range(count)]
    before, after = values[:moved_at], values[moved_at:]
    one(engine, Request(name, Opening(model_version="1")))
    if before:
        filled(engine, before, name, opening=None)
    moved = one(other, upgrade("2", *(before if is_exact else ()), session_id=name, request_id=b"up"))
    assert moved.version == version_of(before)
    assert standing(moved).model.labels == ("tiny", "2")
    assert moved.is_exact == (is_exact or moved.reencoded == len(before))
    assert min(len(before), 24) <= moved.reencoded <= len(before)
    seen = before[len(before) - moved.reencoded :]
    if after:
        last = filled(engine, after, name, len(before), opening=None)
        assert last.version == version_of(values)
    if values:
        assert_close(values_of(one(engine, Request(name, horizon=HORIZON))), forecast_of(V2, seen + after))


def test_what_the_session_is_stays(make_engine: MakeEngine, both: Registry) -> None:
    engine = make_engine(registry=both)
    before = standing(filled(engine, opening=Opening(model_version="1", ttl_ms=50_000)))
    moved = standing(one(engine, upgrade(request_id=b"up")))
    assert (moved.version, moved.recent, moved.lineage, moved.ttl_ms) == (
        before.version, before.recent, before.lineage, 50_000
    )  # fmt: skip
    assert one(engine, observe("a", *VALUES[-5:], request_id=b"35", opening=None)).replayed
    assert one(make_engine(registry=both), observe("a", *VALUES[-5:], request_id=b"35", opening=None)).replayed


def test_its_life_is_not_renewed(
    make_engine: MakeEngine, both: Registry, any_redis: RedisProcess, namespace: str
) -> None:
    filled(make_engine(registry=both))
    key = f"{namespace}:default:a"
    any_redis.client.pexpire(key, 90_000)
    one(make_engine(registry=both), upgrade())
    assert 80_000 < any_redis.client.pttl(key) <= 90_001


def test_a_repeated_upgrade_is_a_replay_and_moves_nothing_back(make_engine: MakeEngine, both: Registry) -> None:
    engine = make_engine(registry=both)
    filled(engine)
    one(engine, upgrade("2", request_id=b"first"))
    one(engine, upgrade("1", request_id=b"second"))
    for replica in (engine, make_engine(registry=both)):
        again = one(replica, upgrade("2", request_id=b"first"))
        assert (again.replayed, again.reencoded, standing(again).model.config.version) == (True, 0, "1")
    for other in (upgrade("1", request_id=b"first"), upgrade("2", request_id=b"35")):
        assert refused(ask(engine, other), InvalidRequest).reason is Reason.REQUEST_ID_REUSED  # type: ignore[arg-type]
    for at in range(17):
        one(engine, observe("a", float(at), request_id=b"later%d" % at, opening=None))
    outdated = upgrade("2", request_id=b"first", last_seen=version_of(VALUES))
    refused(ask(engine, outdated), RequestOutdated)  # type: ignore[arg-type]
    assert not standing(one(make_engine(registry=both), Request("a"))).upgrades


def test_an_upgrade_pushes_out_no_id_of_a_request_that_appended(make_engine: MakeEngine, both: Registry) -> None:
    engine = make_engine(registry=both)
    seen = one(engine, observe("a", 1.0, request_id=b"0")).version
    for at in range(1, 17):
        one(engine, observe("a", float(at), request_id=b"%d" % at))
    one(engine, upgrade(request_id=b"up"))
    late = one(engine, observe("a", 1.0, request_id=b"1", last_seen=seen, opening=None))
    assert late.replayed


def test_it_moves_only_as_it_is_asked(make_engine: MakeEngine, both: Registry) -> None:
    engine = make_engine(registry=both)
    version = filled(engine).version
    refused(ask(engine, upgrade(if_version=Version(3, 4))), VersionMismatch)  # type: ignore[arg-type]
    assert standing(one(engine, Request("a"))).model.config.version == "1"
    assert one(engine, upgrade("1")).reencoded == 0
    moved = one(engine, upgrade("", if_version=version))
    assert standing(moved).model.config.version == "2"
    assert refused(ask(engine, upgrade("3")), ServiceError).reason is Reason.MODEL_NOT_FOUND  # type: ignore[arg-type]
    assert refused(ask(engine, upgrade(session_id="none")), ServiceError).reason is Reason.SESSION_NOT_FOUND  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "since", "field"),
    [
        (VALUES[:-1], None, "observations"),
        ([*VALUES[:-1], 3.0], None, "observations"),
        (VALUES, 35, "observations"),
        (VALUES[7:], 7, "since"),
    ],
    ids=["too few", "other ones", "since another version", "since no version of it"],
)
def test_observations_that_are_not_its_own_are_refused(
    make_engine: MakeEngine, both: Registry, values: list[float], since: int | None, field: str
) -> None:
    engine = make_engine(registry=both)
    filled(engine)
    names = {} if since is None else {"since": version_of(VALUES[:since])}
    error = refused(ask(engine, upgrade("2", *values, **names)), InvalidRequest)  # type: ignore[arg-type]
    assert isinstance(error, InvalidRequest)
    assert error.field == field
    assert standing(one(engine, Request("a"))).model.config.version == "1"


def test_observations_since_a_version_follow_what_the_state_keeps(make_engine: MakeEngine, both: Registry) -> None:
    engine = make_engine(registry=both, snapshot_every=1)
    filled(engine)
    moved = one(engine, upgrade("2", *VALUES[20:], since=version_of(VALUES[:20])))
    assert (moved.reencoded, moved.is_exact) == (24, False)
    assert_close(values_of(one(engine, Request("a", horizon=HORIZON))), forecast_of(V2, VALUES[16:]))


def test_a_stale_copy_conflicts(make_engine: MakeEngine, both: Registry) -> None:
    stale, engine = make_engine(registry=both), make_engine(registry=both)
    filled(stale)
    one(engine, upgrade())
    last = one(stale, observe("a", 5.0, opening=None))
    assert standing(one(stale, Request("a"))).model.config.version == "2"
    assert last.version == version_of([*VALUES, 5.0])
    assert_close(values_of(last), values_of(one(engine, Request("a", horizon=HORIZON))))


def test_what_cannot_be_written_moves_nothing_in_memory(
    make_engine: MakeEngine, both: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(registry=both)
    filled(engine)
    full = PreconditionFailed("full", Reason.STORE_FULL)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", lambda _, commits: {each.key: full for each in commits})
        assert ask(engine, upgrade()) is full
    last = one(engine, observe("a", 5.0, opening=None))
    assert_close(values_of(last), forecast_of(V1, [*VALUES, 5.0]))
    again = one(make_engine(registry=both), Request("a"))
    assert (standing(again).model.config.version, again.version) == ("1", last.version)


class Killed(BaseException):
    """The process has ended."""


def kill_at(store: Store, count: int, *, is_done: bool) -> None:
    """Let the process end at a call of Redis after so many others, before or after Redis has carried it out."""
    left = iter(range(count))

    def cut(name: str) -> Callable[..., object]:
        whole = getattr(store, name)

        def call(*arguments: object) -> object:
            if next(left, None) is None:
                if is_done:
                    whole(*arguments)
                raise Killed
            return whole(*arguments)

        return call

    for name in ("load_each", "commit"):
        setattr(store, name, cut(name))


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("count", range(4))
def test_killed_between_any_two_steps_it_goes_on(
    make_engine: MakeEngine, both: Registry, count: int, is_done: bool
) -> None:
    """The same upgrade and the same observation are sent again, to another server, until they are answered."""
    filled(make_engine(registry=both))
    engine = make_engine(registry=both)
    kill_at(engine._store, count, is_done=is_done)
    requests = [upgrade(request_id=b"up"), observe("a", 5.0, request_id=b"next", opening=None)]
    answers = []
    for request in requests:
        try:
            answers.append(one(engine, request))
        except Killed:
            engine = make_engine(registry=both)
            answers.append(one(engine, request))
    moved, last = answers
    assert (moved.version, last.version) == (version_of(VALUES), version_of([*VALUES, 5.0]))
    assert moved.replayed == (count == 1 and is_done)
    stands = standing(one(make_engine(registry=both), Request("a")))
    assert (stands.model.config.version, stands.version) == ("2", last.version)


@pytest.mark.parametrize("is_known", [True, False], ids=["outline", "no outline"])
def test_a_session_whose_model_is_gone(
    make_engine: MakeEngine, both: Registry, any_redis: RedisProcess, namespace: str, is_known: bool
) -> None:
    filled(make_engine(registry=both))
    if is_known:
        Documents(Store(connect(any_redis.url, 2.0), namespace)).publish(both)
    left = make_engine(registry=Registry([Model(V2)], "tiny"))
    assert refused(ask(left, observe("a", 1.0)), PreconditionFailed).reason is Reason.MODEL_CHANGED  # type: ignore[arg-type]
    if is_known:
        assert one(left, upgrade()).reencoded >= 24
    else:
        error = refused(ask(left, upgrade()), PreconditionFailed)  # type: ignore[arg-type]
        assert error.reason is Reason.HISTORY_NEEDED
        assert "cannot be read" in error.message
        assert "since step 0 as UpgradeSession.observations" in error.message
        assert one(left, upgrade("2", *VALUES)).is_exact
    assert one(left, observe("a", 5.0, opening=None)).version == version_of([*VALUES, 5.0])


def test_steps_and_zones_stay(make_engine: MakeEngine, both: Registry) -> None:
    engine = make_engine(registry=both)
    times = {"start_time": 0, "opening": Opening("hourly", "1")}
    before = one(engine, observe("h", *VALUES, **times))  # type: ignore[arg-type]
    moved = standing(one(engine, upgrade("2", session_id="h")))
    assert (moved.model.config.name, moved.last_time) == ("hourly", 39 * HOUR)
    moved = standing(one(engine, upgrade("2", session_id="h", model="tiny")))  # a model without steps of its own
    assert (moved.frequency, moved.version) == (Frequency.parse("h"), before.version)
    moved = standing(one(engine, upgrade("1", *VALUES, session_id="h", model="hourly", start_time=0)))
    assert moved.own_frequency is None
    late = one(engine, observe("h", 5.0, start_time=40 * HOUR, opening=None))
    whole = one(engine, observe("whole", *VALUES, 5.0, **times))  # type: ignore[arg-type]
    assert late.version == whole.version
    assert_close(values_of(late), values_of(whole))


@pytest.mark.parametrize(
    ("opening", "target", "reason"),
    [
        (Opening(model_version="1"), "three", Reason.UNSUITABLE_MODEL),
        (Opening(model_version="1"), "letters", Reason.UNSUITABLE_MODEL),
        (Opening(model_version="1"), "hourly", Reason.OTHER_FREQUENCY),
        (Opening(model_version="1", frequency=Frequency.parse("D")), "hourly", Reason.OTHER_FREQUENCY),
    ],
)
def test_a_model_of_other_targets_or_steps_is_refused(
    make_engine: MakeEngine, both: Registry, opening: Opening, target: str, reason: Reason
) -> None:
    engine = make_engine(registry=both)
    one(engine, observe("a", 1.0, 2.0, opening=opening, start_time=0 if opening.frequency else None))
    error = refused(ask(engine, upgrade("1", model=target)), PreconditionFailed)  # type: ignore[arg-type]
    assert error.reason is reason
    assert standing(one(engine, Request("a"))).model.config.name == "tiny"


def test_a_classifier_needs_the_history(make_engine: MakeEngine, both: Registry) -> None:
    letters = symbol_model()
    other = type(letters)(replace(letters.config, version="2")).eval()
    registry = Registry([Model(letters), Model(other), Model(V1)], "tiny")
    engine = make_engine(registry=registry, snapshot_every=1)
    symbols = [0.0, 1.0, 2.0, 3.0, 0.0]
    for symbol in symbols:
        one(engine, observe("a", symbol, opening=Opening("letters", "1"), horizon=3))
    assert refused(ask(engine, upgrade()), PreconditionFailed).reason is Reason.HISTORY_NEEDED  # type: ignore[arg-type]
    assert one(engine, upgrade("2", *symbols)).reencoded == 5


def test_covariates_are_known_from_entries_and_observations_alone(make_engine: MakeEngine) -> None:
    config = replace(shop_model().config, frequency="", calendar=())
    first, other = Forecaster(config).eval(), Forecaster(replace(config, version="2")).eval()
    registry = Registry([Model(first), Model(other), Model(V1)], "tiny")
    engine = make_engine(registry=registry, snapshot_every=1000)
    rows, covariates = np.arange(20.0).reshape(10, 2), np.arange(20.0)
    opening = Opening("shop", "1", categories={"region": "north"})
    for row in range(0, 10, 2):
        taken = {"covariates": covariates[2 * row : 2 * row + 4], "opening": opening}
        one(engine, Request("a", values=rows[row : row + 2].ravel(), **taken))  # type: ignore[arg-type]
    moved = one(engine, upgrade(""))
    assert (moved.reencoded, moved.is_exact) == (10, False)  # the snapshot's window has no covariates
    exact = one(engine, upgrade("2", *rows.ravel(), covariates=covariates))
    assert (exact.reencoded, exact.is_exact, standing(exact).categories) == (10, True, {"region": "north"})
    kept = one(engine, Request("a", values=np.ones(2), opening=replace(opening, model_version="2")))
    assert kept.version is not None
    assert kept.version.step == 11


def follow(registry: Registry, change: Callable[..., object], *names: object, **flags: object) -> None:
    registry.adopt(change(registry.policies, *names, **flags))  # type: ignore[arg-type]


def test_sessions_that_follow_move_at_their_next_request(make_engine: MakeEngine) -> None:
    registry = models()
    engine = make_engine(registry=registry)
    for name, opening in (("a", Opening()), ("pinned", Opening(model_version="1"))):
        follow(registry, type(registry.policies).with_policy, "tiny", "pin" if name == "a" else "follow")
        filled(engine, session_id=name, opening=opening)
    registry.add(Model(V2))
    answers = engine.run({name: [observe(name, 5.0, opening=None)] for name in ("a", "pinned")})
    found = {name: answer for name, (answer,) in answers.items() if isinstance(answer, Outcome)}
    assert {name: each.model and each.model.config.version for name, each in found.items()} == {"a": "2", "pinned": "1"}
    assert found["a"].version == found["pinned"].version == version_of([*VALUES, 5.0])
    assert engine._metrics.upgrades.labels("tiny", "2")._value.get() == 1
    behind = make_engine(registry=models())
    error = refused(ask(behind, observe("a", 5.0, opening=None)), Unavailable)  # type: ignore[arg-type]
    assert error.reason is Reason.MODEL_LOADING


def test_an_alias_is_followed_both_ways(make_engine: MakeEngine) -> None:
    fresh, stale = models(V2), models(V2)
    for registry in (fresh, stale):
        registry.adopt(registry.policies.with_alias("tiny", "production", "1"))
    engine, other = make_engine(registry=fresh), make_engine(registry=stale)
    opening = Opening("tiny", alias="production")
    assert standing(filled(engine, opening=opening)).model.config.version == "1"
    for target in ("2", "1", "2"):
        fresh.adopt(fresh.policies.with_alias("tiny", "production", target))
        moved = one(engine, observe("a", opening=opening))
        assert moved.model is not None
        assert moved.model.config.version == target
    asked = []
    stale.ask_for_policies(lambda: asked.append(True))
    error = refused(ask(other, observe("a", opening=opening)), Unavailable)  # type: ignore[arg-type]
    assert (error.reason, asked) == (Reason.MODEL_LOADING, [True])
    stale.adopt(fresh.policies)
    assert one(other, observe("a", opening=opening)).model is not None
    fresh.adopt(fresh.policies.with_alias("tiny", "production", "9"))
    assert refused(ask(engine, observe("a")), Unavailable).reason is Reason.MODEL_LOADING  # type: ignore[arg-type]
    fresh.adopt(fresh.policies.with_alias("tiny", "production", ""))
    assert standing(one(engine, Request("a"))).model.config.version == "2"


def test_an_opening_may_upgrade(make_engine: MakeEngine, both: Registry) -> None:
    engine = make_engine(registry=both)
    filled(engine)
    wanted = Opening(model_version="2")
    assert refused(ask(engine, observe("a", 1.0, opening=wanted)), PreconditionFailed).reason is Reason.OTHER_MODEL  # type: ignore[arg-type]
    last = one(engine, observe("a", 1.0, opening=replace(wanted, upgrade=True)))
    assert (last.opened, last.version, last.model and last.model.config.version) == (
        False,
        version_of([*VALUES, 1.0]),
        "2",
    )
    unsuitable = observe("a", 1.0, opening=Opening("three", upgrade=True))
    answers = engine.run({"a": [unsuitable, observe("a", 2.0, opening=None)]})["a"]
    assert refused(answers[0], PreconditionFailed).reason is Reason.UNSUITABLE_MODEL
    assert isinstance(answers[1], Outcome)


def test_a_retired_version_is_not_begun_on(make_engine: MakeEngine, both: Registry) -> None:
    engine = make_engine(registry=both)
    filled(engine, opening=Opening(model_version="2"))
    both.adopt(both.policies.with_retired("tiny", "2", is_retired=True))
    assert standing(one(engine, Request("a"))).model.config.version == "2"
    assert standing(one(engine, Request("new", Opening()))).model.config.version == "1"
    error = refused(ask(engine, Request("other", Opening(model_version="2"))), ServiceError)  # type: ignore[arg-type]
    assert (error.reason, "retired" in error.message) == (Reason.MODEL_NOT_FOUND, True)


def test_documents_are_changed_by_one_at_a_time(any_redis: RedisProcess, namespace: str, both: Registry) -> None:
    first, second = (Documents(Store(connect(any_redis.url, 2.0), namespace)) for _ in range(2))
    first.change_policies(lambda policies: policies.with_alias("tiny", "a", "1"))

    def contested(policies: object) -> object:
        if not getattr(second, "was_here", False):
            second.was_here = True  # type: ignore[attr-defined]
            second.change_policies(lambda each: each.with_policy("tiny", "follow"))
        return policies.with_alias("tiny", "b", "2")  # type: ignore[attr-defined]

    changed = first.change_policies(contested)  # type: ignore[arg-type]
    assert second.policies() == changed
    assert (changed.policy("tiny"), changed.aliases) == ("follow", {"tiny": {"a": "1", "b": "2"}})
