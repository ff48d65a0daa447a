"""Sessions, requests and histories that look the same but are not."""

import hashlib
import math
import struct

import numpy as np
import pytest
from support.engines import MakeEngine, observe, one, refused, step_of
from support.redis_process import RedisProcess

from statecast.service.engine.engine import Engine
from statecast.service.engine.request import Opening, Request
from statecast.service.errors import InvalidRequest, PreconditionFailed, SessionRegressed
from statecast.service.version import START, Version, chain
from statecast.v1.reasons import Reason

HOUR = 3_600_000_000_000
HOURLY = Opening("hourly")


class Key:
    """A session's key in Redis."""

    def __init__(self, redis: RedisProcess, name: str) -> None:
        self._client, self._name = redis.client, name

    def read(self) -> bytes:
        value = self._client.get(self._name)
        assert isinstance(value, bytes)
        return value

    def write(self, value: bytes) -> None:
        self._client.set(self._name, value, keepttl=True)


@pytest.fixture
def key(any_redis: RedisProcess, namespace: str) -> Key:
    return Key(any_redis, f"{namespace}:default:a")


def test_a_copy_of_a_session_that_was_opened_anew_with_the_same_values_is_stale(make_engine: MakeEngine) -> None:
    stale, other = make_engine(), make_engine()
    one(stale, observe("a", 1.0, request_id=b"r"))
    one(other, Request("a", close=True))
    one(other, observe("a", 1.0))
    anew = one(stale, observe("a", 1.0, request_id=b"r"))
    assert not anew.replayed
    assert step_of(anew) == 2


def test_the_tag_depends_on_every_step() -> None:
    tag = bytes(8)
    for value in (1.0, math.nan, 0.0):
        tag = hashlib.blake2b(tag + struct.pack("<d", value), digest_size=8).digest()
    rows = np.array([[1.0], [-math.nan], [-0.0]])
    assert chain(START, rows, None) == Version(3, int.from_bytes(tag, "little"))


def test_a_retry_is_known_although_its_if_version_holds_no_more(make_engine: MakeEngine) -> None:
    start = one(make_engine(), observe("a", 1.0)).version
    request = observe("a", 2.0, request_id=b"r", if_version=start)
    applied = one(make_engine(), request)
    again = one(make_engine(), request)
    assert again.replayed
    assert again.version == applied.version


def test_the_same_values_at_another_time_are_another_request(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0, opening=HOURLY, start_time=0))
    one(engine, observe("a", 2.0, start_time=HOUR, request_id=b"r"))
    assert one(engine, observe("a", 2.0, start_time=HOUR, request_id=b"r")).replayed
    for start in (2 * HOUR, None):
        (result,) = engine.run({"a": [observe("a", 2.0, start_time=start, request_id=b"r")]})["a"]
        assert refused(result, InvalidRequest).reason is Reason.REQUEST_ID_REUSED


def test_the_same_values_at_another_time_are_another_history(make_engine: MakeEngine) -> None:
    engine = make_engine()
    versions = [
        one(engine, observe(name, 1.0, 2.0, opening=HOURLY, start_time=start)).version
        for name, start in (("a", 0), ("b", HOUR), ("c", 0))
    ]
    assert versions[0] == versions[2]
    assert versions[0] != versions[1]


@pytest.mark.parametrize("snapshot_every", [1, 2, 100])
def test_what_was_lost_stays_lost_when_the_session_is_beyond_that_step_again(
    make_engine: MakeEngine, key: Key, snapshot_every: int
) -> None:
    def engine_that_knows_nothing() -> Engine:
        return make_engine(snapshot_every=snapshot_every)

    older = one(engine_that_knows_nothing(), observe("a", 1.0)).version
    record = key.read()
    newer = one(engine_that_knows_nothing(), observe("a", 2.0)).version
    key.write(record)
    for value in (3.0, 4.0):
        one(engine_that_knows_nothing(), observe("a", value, last_seen=older))
    (result,) = engine_that_knows_nothing().run({"a": [observe("a", last_seen=newer)]})["a"]
    refused(result, SessionRegressed)


def test_a_record_that_lacks_an_entry_in_between_is_damaged(make_engine: MakeEngine, key: Key) -> None:
    records = []
    for value in (1.0, 2.0, 3.0):
        one(make_engine(snapshot_every=100), observe("a", value))
        records.append(key.read())
    first, second, third = records
    key.write(first + third[len(second) :])
    (result,) = make_engine().run({"a": [observe("a")]})["a"]
    assert refused(result, PreconditionFailed).reason is Reason.RECORD_DAMAGED


def test_while_everything_is_remembered_another_history_is_never_believed(make_engine: MakeEngine) -> None:
    engine = make_engine()
    seen = one(engine, observe("a", 1.0, 2.0, 3.0)).version
    one(engine, Request("a", close=True))
    one(engine, observe("a", *range(10)))
    (result,) = engine.run({"a": [observe("a", 4.0, last_seen=seen)]})["a"]
    told = str(refused(result, SessionRegressed))
    assert "Redis lost them" in told
    assert "rounded the 64-bit tag" in told
