"""Steady rows and planned ones give the same answers and the same bytes in Redis."""

import itertools
import math
import os
import struct
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.engines import MakeEngine, observe, one
from support.models import HORIZON
from support.redis_process import RedisProcess

from statecast.model import Frequency
from statecast.service.engine import decide
from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Opening, Outcome, Request, Result
from statecast.service.errors import ServiceError
from statecast.service.store.record import decode
from statecast.service.version import Version

HOUR = 3_600_000_000_000
BEGIN = 1_700_000_000 // 3600 * HOUR
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_0123))[0]
VALUES = st.sampled_from([1.0, -2.5, 0.0, -0.0, math.nan, OTHER_NAN])
HOURLY = Frequency.parse("h")
OPENINGS = {
    "plain": Opening(),
    "timed": Opening("hourly"),
    "wide": Opening("three"),
    "own": Opening(frequency=HOURLY),
}
DATED = ("timed", "own")
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(0, 2),
        "request_id": st.sampled_from([b"", b"x", b"y", b"z"]),
        "seen": st.sampled_from(["newest", "older", "foreign"]),
        "opening": st.sampled_from(
            [
                None,
                Opening(),
                Opening("tiny", "1"),
                Opening("hourly"),
                Opening("three"),
                Opening(frequency=HOURLY),
                Opening(frequency=Frequency.parse("D")),
            ]
        ),
        "horizon": st.sampled_from([0, 1, HORIZON, HORIZON + 1]),
        "start": st.sampled_from([1, 2, 3, -1, 0]),
        "target_count": st.sampled_from([0, 1, 3]),
        "quantile_levels": st.just((0.5,)),
        "if_version": st.just(True),
        "late": st.just(True),
        "close": st.just(True),
    },
)
BATCHES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([*OPENINGS]), st.lists(FIELDS, min_size=1, max_size=2), min_size=1),
        st.booleans(),
    ),
    min_size=4,
    max_size=14,
)


class Side:
    """An engine with a namespace of its own, and what its sessions have answered."""

    def __init__(self, engine: Engine, redis: RedisProcess, namespace: str) -> None:
        self.engine, self._redis, self._namespace = engine, redis, namespace
        self.versions: dict[str, list[Version]] = {name: [] for name in OPENINGS}

    def run(self, batch: dict[str, list[Request]]) -> dict[str, list[Result]]:
        results = self.engine.run(batch)
        for name, answered in results.items():
            self.versions[name] += [each.version for each in answered if isinstance(each, Outcome) and each.version]
        return results

    def record(self, name: str) -> bytes | None:
        data = self._redis.client.get(f"{self._namespace}:default:{name}")
        assert data is None or isinstance(data, bytes)
        return data


@contextmanager
def numbered_nonces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take this thread's stamps from a count instead of chance; servers of other tests go on by chance."""
    numbers, here, by_chance = itertools.count(), threading.get_ident(), os.urandom

    def numbered(size: int) -> bytes:
        return next(numbers).to_bytes(size, "little") if threading.get_ident() == here else by_chance(size)

    with monkeypatch.context() as patch:
        patch.setattr(os, "urandom", numbered)
        yield


def requests_of(name: str, fields: Sequence[dict[str, Any]], versions: Sequence[Version], values: Any) -> list[Request]:
    made = []
    for given_fields in fields:
        chosen = dict(given_fields)
        width, count = (3 if name == "wide" else 1), chosen.pop("count", 1)
        start, seen = chosen.pop("start", None), chosen.pop("seen", None)
        if not versions:
            chosen["opening"] = OPENINGS[name]
        if seen and versions:
            chosen["last_seen"] = {"newest": versions[-1], "older": versions[0], "foreign": Version(2, 7)}[seen]
        if chosen.pop("late", False):
            chosen["deadline"] = time.monotonic() - 1
        if chosen.pop("if_version", False) and versions:
            chosen["if_version"] = versions[-1]
        if name in DATED and (start is not None or not versions):
            step = versions[-1].step if versions else 0
            chosen["start_time"] = BEGIN + (step + (start or 1) - 1) * HOUR + (1 if start == -1 else 0)
        if chosen.get("close"):
            chosen = {"close": True}
            count = 0
        observed = np.array([next(values) for _ in range(count * width)], np.float64)
        made.append(Request(name, values=observed, **chosen))
    return made if not any(each.goes_alone for each in made) else made[:1]


def told(result: Result) -> object:
    """Return what the caller sees of a result."""
    if isinstance(result, Outcome):
        parts = (result.version, result.opened, result.replayed, result.missing, result.ttl_ms)
        forecast, pit = result.forecast, result.pit
        return parts, forecast and (forecast.outline, forecast.start_time), pit is None
    assert isinstance(result, ServiceError), result
    return type(result), result.message, result.reason


def numbers(result: Result) -> list[NDArray[np.floating[Any]]]:
    """Return the numbers of a result, which rounding may change."""
    if not isinstance(result, Outcome):
        return []
    forecast = [] if result.forecast is None else [result.forecast.values]
    return forecast if result.pit is None else [*forecast, np.frombuffer(result.pit, "<f4")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES, values=st.lists(VALUES, min_size=12, max_size=12), snapshot_every=st.sampled_from([1, 3, 100]))
def test_both_ways_agree(
    make_engine: MakeEngine,
    any_redis: RedisProcess,
    monkeypatch: pytest.MonkeyPatch,
    batches: Sequence[tuple[dict[str, list[dict[str, Any]]], bool]],
    values: Sequence[float],
    snapshot_every: int,
) -> None:
    sides = []
    for _ in range(2):
        namespace = uuid.uuid4().hex
        engine = make_engine(snapshot_every=snapshot_every, now=lambda: BEGIN + 100 * HOUR, timeout_seconds=30.0)
        engine._store._namespace = namespace
        sides.append(Side(engine, any_redis, namespace))
    for asked, forget in batches:
        results = []
        for side, is_planned in zip(sides, (False, True), strict=True):
            drawn = itertools.cycle(values)
            batch = {name: requests_of(name, fields, side.versions[name], drawn) for name, fields in asked.items()}
            with numbered_nonces(monkeypatch), monkeypatch.context() as patch:
                if is_planned:
                    patch.setattr(decide, "is_steady", lambda *_: False)
                results.append(side.run(batch))
            if forget:
                side.engine._drop(OPENINGS)
        steady, planned = results
        for name in asked:
            assert [told(each) for each in steady[name]] == [told(each) for each in planned[name]]
            for own, other in zip(steady[name], planned[name], strict=True):
                for left, right in zip(numbers(own), numbers(other), strict=True):
                    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
            assert sides[0].record(name) == sides[1].record(name)


def test_usual_requests_are_steady(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(now=lambda: BEGIN + 100 * HOUR)
    for name, opening in OPENINGS.items():
        width = 3 if name == "wide" else 1
        one(engine, observe(name, *range(width), opening=opening, start_time=BEGIN if name in DATED else None))
    monkeypatch.setattr(engine._planner, "plan", None)  # any call of it fails
    for step in range(1, 5):
        for name in OPENINGS:
            number = [float(step)] * (3 if name == "wide" else 1)
            version = one(engine, observe(name, *number, opening=None, request_id=b"%d" % step)).version
            start = BEGIN + (2 * step) * HOUR if name in DATED else None
            done = one(engine, observe(name, *number, horizon=0, last_seen=version, start_time=start))
            assert done.version is not None
            assert done.version.step == 2 * step + 1
            assert one(engine, Request(name, horizon=HORIZON)).forecast is not None


def test_a_repetition_with_another_zero_is_another_request(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0))
    one(engine, observe("a", -0.0, request_id=b"x"))
    assert one(engine, observe("a", -0.0, request_id=b"x")).replayed
    (result,) = engine.run({"a": [observe("a", 0.0, request_id=b"x")]})["a"]
    assert isinstance(result, ServiceError)


def test_what_was_sent_is_what_is_stored(make_engine: MakeEngine, any_redis: RedisProcess, namespace: str) -> None:
    engine = make_engine(snapshot_every=100)
    one(engine, observe("a", 1.0))
    for value in (-0.0, OTHER_NAN):
        one(engine, observe("a", value))
    data = any_redis.client.get(f"{namespace}:default:a")
    assert isinstance(data, bytes)
    assert [entry.data for entry in decode("a", data).entries] == [
        struct.pack("<d", -0.0),
        struct.pack("<d", OTHER_NAN),
    ]
