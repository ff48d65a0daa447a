"""Sessions are read as a commit has left them, and an import replaces only what it has seen."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from support.engines import MakeEngine, assert_close, expected, observe, one, step_of
from support.models import tiny_model
from support.redis_process import RedisProcess

from statecast.service.engine.request import Outcome, Request
from statecast.service.engine.transfer import ATTEMPTS, Arrival, Exported, Taken, Transfer, Unreadable
from statecast.service.errors import AlreadyExists, NotFound, PreconditionFailed, ServiceError, Unavailable
from statecast.service.models.registry import Model, Registry
from statecast.service.session_key import session_key
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Store, Stored
from statecast.v1.reasons import Reason


class ContestedStore(Store):
    """A store on which somebody writes after each load."""

    write: Callable[[], object] = staticmethod(lambda: None)

    def load(self, session_keys: Sequence[str]) -> list[Stored | None]:
        found = super().load(session_keys)
        self.write()
        return found


@pytest.fixture
def store(any_redis: RedisProcess, namespace: str) -> ContestedStore:
    return ContestedStore(connect(any_redis.url, 2.0), namespace)


@pytest.fixture
def transfer(store: Store, registry: Registry) -> Transfer:
    return Transfer(store, registry)


def read(transfer: Transfer, key: str = "a") -> Exported:
    (found,) = transfer.read([key])
    assert isinstance(found, Exported)
    return found


def take(transfer: Transfer, arrival: Arrival, *, replace: bool = False) -> Taken | ServiceError:
    return transfer.take([arrival], replace=replace, full=None)[arrival.key]


def as_arrival(session: Exported, key: str = "a") -> Arrival:
    return Arrival(key, session.record, session.left_ms)


def test_a_session_of_another_tenant_goes_on(make_engine: MakeEngine, transfer: Transfer) -> None:
    engine = make_engine()

    def ask(tenant: str, value: float, request_id: bytes = b"") -> Outcome:
        key = session_key(tenant, "a")
        (result,) = engine.run({key: [observe("a", value, tenant=tenant, request_id=request_id)]})[key]
        assert isinstance(result, Outcome), result
        return result

    for value in (1.0, 2.0, 3.0):
        ask("acme", value, b"%g" % value)
    session = read(transfer, session_key("acme", "a"))
    assert take(transfer, as_arrival(session, session_key("other", "a"))) == Taken()
    answer = ask("other", 4.0)
    assert answer.forecast is not None
    assert_close(answer.forecast.values, expected([1.0, 2.0, 3.0, 4.0]))
    assert ask("other", 2.0, b"2").replayed
    assert step_of(ask("acme", 4.0)) == 4


@pytest.mark.parametrize("times", [1, ATTEMPTS - 1, ATTEMPTS])
def test_a_session_that_is_being_written_is_looked_at_again(
    make_engine: MakeEngine, transfer: Transfer, store: ContestedStore, times: int
) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0))
    arrival = as_arrival(read(transfer))
    written = [one(engine, observe("a", 2.0)).version]

    def write() -> None:
        if len(written) <= times:
            written.append(one(engine, observe("a", 2.0)).version)

    store.write = write
    result = take(transfer, arrival, replace=True)
    if times == ATTEMPTS:
        assert isinstance(result, Unavailable)
        assert result.reason is Reason.CONTENDED
        assert one(engine, Request("a")).version == written[-1]
    else:
        assert result == Taken(written[-1], was_there=True)
        assert one(engine, Request("a")).version == arrival.version


def test_a_session_opened_meanwhile_is_not_overwritten(
    make_engine: MakeEngine, transfer: Transfer, store: ContestedStore
) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0))
    arrival = as_arrival(read(transfer))
    one(engine, Request("a", close=True))
    opened: list[Outcome] = []

    def write() -> None:
        if not opened:
            opened.append(one(engine, observe("a", 8.0)))

    store.write = write
    assert isinstance(take(transfer, arrival), AlreadyExists)
    assert one(engine, Request("a")).version == opened[0].version


def test_the_same_history_with_other_request_ids_is_another_session(
    make_engine: MakeEngine, transfer: Transfer
) -> None:
    engine = make_engine()
    one(engine, observe("a", 1.0, request_id=b"then"))
    arrival = as_arrival(read(transfer))
    one(engine, Request("a", close=True))
    one(engine, observe("a", 1.0, request_id=b"now"))
    refused = take(transfer, arrival)
    assert isinstance(refused, AlreadyExists)
    assert take(transfer, arrival, replace=True) == Taken(arrival.version, was_there=True)
    assert one(engine, observe("a", 1.0, request_id=b"then")).replayed
    assert take(transfer, arrival) == Taken(was_there=True, changed=False)


def test_a_copy_in_memory_is_stale_after_an_import(make_engine: MakeEngine, transfer: Transfer) -> None:
    """Even if its version is that of the imported session: its request ids are others."""
    stale, other = make_engine(), make_engine()
    one(other, observe("a", 1.0, request_id=b"then"))
    arrival = as_arrival(read(transfer))
    one(other, Request("a", close=True))
    one(stale, observe("a", 1.0, request_id=b"now"))
    take(transfer, arrival, replace=True)
    assert one(stale, observe("a", 1.0, request_id=b"then")).replayed
    assert not one(stale, observe("a", 1.0, request_id=b"now")).replayed


def test_the_time_that_is_left_is_kept(
    make_engine: MakeEngine, transfer: Transfer, any_redis: RedisProcess, namespace: str
) -> None:
    one(make_engine(), observe("a", 1.0))
    any_redis.client.pexpire(f"{namespace}:default:a", 60_000 + 20_000)
    session = read(transfer)
    assert session.left_ms is not None
    assert 19_000 < session.left_ms <= 20_000
    take(transfer, Arrival("b", replace(session.record), session.left_ms))
    left = any_redis.client.pttl(f"{namespace}:default:b")
    assert isinstance(left, int)
    assert 79_000 < left <= 80_001


def test_models_that_are_missing_or_others_are_refused(
    make_engine: MakeEngine, store: Store, transfer: Transfer
) -> None:
    one(make_engine(), observe("a", 1.0))
    arrival = Arrival("b", read(transfer).record, None)
    without, other = (
        Transfer(store, Registry([Model(model)], model.config.name))
        for model in (tiny_model("hourly"), tiny_model("tiny", seed=1))
    )
    missing = take(without, arrival)
    assert isinstance(missing, NotFound)
    assert missing.reason is Reason.MODEL_NOT_FOUND
    assert "runs on model 'tiny' version '1', which this server does not have" in missing.message
    changed = take(other, arrival)
    assert isinstance(changed, PreconditionFailed)
    assert changed.reason is Reason.MODEL_CHANGED
    assert tiny_model().digest in changed.message
    snapshot = replace(arrival.record.snapshot, state=b"short")
    misfit = take(transfer, replace(arrival, record=replace(arrival.record, snapshot=snapshot)))
    assert isinstance(misfit, PreconditionFailed)
    assert misfit.reason is Reason.RECORD_DAMAGED
    assert misfit.message.endswith("export the session again")
    assert not transfer.read(["b"])


def test_a_damaged_record_is_named(transfer: Transfer, any_redis: RedisProcess, namespace: str) -> None:
    any_redis.client.set(f"{namespace}:default:a", b"damaged")
    (found,) = transfer.read(["a"])
    assert isinstance(found, Unreadable)
    assert found.session_id == "a"
    assert "restore it from an earlier export" in str(found.error)
