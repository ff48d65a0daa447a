"""Values count once, as inside or outside the intervals forecast for them, and their `pit` is returned."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support.engines import MakeEngine, observe, one, refused
from support.redis_process import RedisProcess
from support.rich_model import BEGIN, HOUR, OPENING, TARGETS, history

from statecast.model import ModelConfig
from statecast.service.engine.counters import intervals
from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Outcome, Request
from statecast.service.errors import InvalidRequest, Unavailable
from statecast.service.store.redis_store import Store, Verdict
from statecast.service.version import START, Version

LEVELS = {"80": (0.1, 0.9), "90": (0.05, 0.95)}


def pit(outcome: Outcome) -> NDArray[np.float32]:
    assert outcome.pit is not None
    assert outcome.model is not None
    return np.frombuffer(outcome.pit, "<f4").reshape(-1, outcome.model.targets)


def counted(engines: Iterable[Engine]) -> Counter[tuple[str, str]]:
    """Return the counts of all engines for the shop model, by level and inside or outside."""
    found: Counter[tuple[str, str]] = Counter()
    for engine in engines:
        for metric in engine._metrics.interval_observations.collect():
            for sample in metric.samples:
                labels = sample.labels
                if sample.name.endswith("_total") and labels["model"] == "shop":
                    assert labels["model_version"] == "1"
                    found[labels["level"], labels["inside"]] += int(sample.value)
    return found


def expected_counts(told: NDArray[np.float64]) -> dict[tuple[str, str], int]:
    known = told[~np.isnan(told)]
    counts: dict[tuple[str, str], int] = {}
    for level, (low, high) in LEVELS.items():
        inside = int(((known >= low) & (known <= high)).sum())
        counts |= {(level, "true"): inside, (level, "false"): known.size - inside}
    return counts


@pytest.mark.parametrize("snapshot_every", [1, 5, 1000])
def test_it_is_that_of_one_run_of_the_model_however_it_is_cut(make_engine: MakeEngine, snapshot_every: int) -> None:
    engines = [make_engine(snapshot_every=snapshot_every, capacity=1) for _ in range(2)]
    sales = history(60)
    parts = []
    for number, request in enumerate(sales.requests("a", [1, 2, 9, 30, 41])):
        outcome = one(engines[number % 2], replace(request, horizon=number % 2))
        assert pit(outcome).shape == (request.values.size // TARGETS, TARGETS)
        parts.append(pit(outcome))
        one(engines[number % 2], observe("b", 1.0))
    direct = sales.trace().pit[0].numpy()
    np.testing.assert_allclose(np.concatenate(parts), direct, atol=1e-5)
    assert np.isnan(direct[0]).all()
    assert 60 < np.isfinite(direct).sum() < 118
    assert counted(engines) == expected_counts(direct)


def test_requests_of_one_batch_have_each_their_own(make_engine: MakeEngine) -> None:
    sales, engine = history(20), make_engine()
    requests = [*sales.requests("a", [3, 4, 15], request_id=b""), sales.request("a", 20, 20)]
    *outcomes, silent = [result for result in engine.run({"a": requests})["a"] if isinstance(result, Outcome)]
    assert silent.pit is None
    told = [pit(outcome) for outcome in outcomes]
    assert [len(each) for each in told] == [3, 1, 11, 5]
    np.testing.assert_allclose(np.concatenate(told), sales.trace().pit[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 8])
def test_long_batches_tell_it_too(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("statecast.service.engine.advance.STEPS_AT_ONCE", at_once)
    sales, engine = history(30), make_engine()
    told = pit(one(engine, sales.request("a", 0, 30)))
    np.testing.assert_allclose(told, sales.trace().pit[0].numpy(), atol=1e-5)
    assert counted([engine]) == expected_counts(sales.trace().pit[0].numpy())


def test_steps_that_are_missing_are_not_told(make_engine: MakeEngine) -> None:
    sales, engine = history(12), make_engine()
    sales.rows[5:9] = np.nan
    one(engine, sales.request("a", 0, 5))
    told = pit(one(engine, sales.request("a", 9, 12, start_time=BEGIN + 9 * HOUR)))
    direct = sales.trace().pit[0].numpy()
    np.testing.assert_allclose(told, direct[9:], atol=1e-5)
    assert counted([engine]) == expected_counts(direct)


def test_a_model_that_does_not_check_its_intervals_tells_nothing(make_engine: MakeEngine) -> None:
    engine = make_engine()
    told = pit(one(engine, observe("a", 1.0, 2.0, 3.0)))
    assert told.shape == (3, 1)
    assert np.isnan(told).all()
    assert not counted([engine])


def test_repetitions_are_neither_told_nor_counted_again(make_engine: MakeEngine) -> None:
    engines = [make_engine(snapshot_every=every) for every in (1, 100)]
    sales = history(30)
    for number, request in enumerate(sales.requests("a", [10, 20])):
        request = replace(request, request_id=b"%d" % number)
        one(engines[0], request)
        for engine in (*engines, make_engine()):
            again = one(engine, request)
            assert again.replayed
            assert again.pit is None
        one(engines[1], Request("a", horizon=2))  # replays entries of the record
    assert counted(engines) == expected_counts(sales.trace().pit[0].numpy())


def test_what_was_refused_is_not_counted(make_engine: MakeEngine) -> None:
    engine, sales = make_engine(), history(20)
    one(engine, sales.request("a", 0, 10))
    requests = [sales.request("a", 10, 20, horizon=99), sales.request("a", 10, 20)]
    results = engine.run({"a": requests})["a"]
    refused(results[0], InvalidRequest)
    assert counted([engine]) == expected_counts(sales.trace().pit[0].numpy())


def test_after_a_conflict_it_is_counted_once(make_engine: MakeEngine) -> None:
    engines = [make_engine(), make_engine()]
    sales = history(40)
    for number, request in enumerate(sales.requests("a", [10, 20, 30])):
        one(engines[number % 2], request)  # its cached session is stale from the second time on
    assert sum(engine._metrics.conflicts._value.get() for engine in engines) == 2
    assert counted(engines) == expected_counts(sales.trace().pit[0].numpy())


def test_a_commit_that_failed_is_not_counted_and_its_repetition_is(
    make_engine: MakeEngine, own_redis: RedisProcess
) -> None:
    engine, sales = make_engine(redis=own_redis, timeout_seconds=1.0), history(30)
    one(engine, sales.request("a", 0, 20))
    before = counted([engine])
    own_redis.kill()
    request = sales.request("a", 20, 30, request_id=b"r")
    (result,) = engine.run({"a": [request]})["a"]
    refused(result, Unavailable)
    assert counted([engine]) == before
    own_redis.start()
    one(engine, request)
    one(engine, request)
    assert counted([engine]) == expected_counts(sales.trace().pit[0].numpy())


def test_a_commit_of_unknown_outcome_is_not_counted(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sales = make_engine(), history(20)
    one(engine, sales.request("a", 0, 10))
    before, commit = counted([engine]), Store.commit

    def lose_the_answer(store: Store, commits: object) -> dict[str, Verdict]:
        commit(store, commits)  # type: ignore[arg-type]
        raise Unavailable("lost", "STORE_UNAVAILABLE", 0.1)  # type: ignore[arg-type]

    request = sales.request("a", 10, 20, request_id=b"r")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", lose_the_answer)
        (result,) = engine.run({"a": [request]})["a"]
    refused(result, Unavailable)
    assert one(engine, request).replayed
    assert counted([engine]) == before


def test_sessions_of_a_batch_are_counted_together(make_engine: MakeEngine) -> None:
    engine = make_engine()
    sales = {name: history(15 + seed, seed) for seed, name in enumerate("abc")}
    batch = {name: [each.request(name, 0, len(each.rows))] for name, each in sales.items()}
    engine.run({**batch, "other": [observe("other", 1.0, 2.0)], "empty": [Request("empty", OPENING)]})
    direct = np.concatenate([each.trace().pit[0].numpy() for each in sales.values()])
    assert counted([engine]) == expected_counts(direct)


def test_levels_that_stand_alone_make_no_interval() -> None:
    assert [each.level for each in intervals((0.025, 0.1, 0.25, 0.5, 0.9, 0.975))] == ["95", "80"]
    assert not list(intervals((0.5,)))
    assert not list(intervals(()))
    assert [each[1:] for each in intervals(ModelConfig("a", "1").quantile_levels)] == [(0.1, 0.9), (0.25, 0.75)]


def test_sessions_that_redis_has_lost_are_counted_and_told_once_a_second(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Lose all sessions at once, as if Redis came back empty; sessions that no caller has seen do not count."""
    engine = make_engine()
    seen = {f"s-{at}": [observe(f"s-{at}", 1.0, last_seen=Version(3, 7))] for at in range(100)}
    new = {f"n-{at}": [observe(f"n-{at}", 1.0, opening=None, last_seen=START)] for at in range(5)}
    for _ in range(3):
        results = engine.run({**seen, **new})
    messages = {name: str(result) for name, (result,) in results.items()}
    assert messages["s-3"].startswith(f"there is no session 's-3', although the caller saw it at {Version(3, 7)}: ")
    assert messages["s-3"].endswith("send its history again")
    assert messages["n-3"] == "there is no session 'n-3'; open it to begin a new one"
    assert engine._metrics.sessions_missing._value.get() == 300
    told = [record.getMessage() for record in caplog.records if "has no trace" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("100 requests named sessions")
