"""Exports and imports while others write, while servers stop and Redis fails, and of many sessions."""

import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import WAIT_SECONDS, await_true
from support.engines import assert_close, expected
from support.models import HORIZON, write_rich_models
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread
from support.wire import failure, observations, reason

from statecast.service.access import api_keys
from statecast.service.settings import Settings
from statecast.service.store.portable import to_portable
from statecast.service.store.record import Record, Snapshot
from statecast.service.version import Version
from statecast.v1 import admin_service_pb2 as admin
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.admin_service_pb2_grpc import AdminServiceStub
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.model_service_pb2 import ListModelsRequest
from statecast.v1.model_service_pb2_grpc import ModelServiceStub

Server = ServerThread | ServerProcess


class Place:
    """A server as its administrator and its callers see it."""

    def __init__(self, server: Server, key: str = "") -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.target)
        self.admin: Any = AdminServiceStub(self.channel)
        self.forecasts = ForecastServiceStub(self.channel)
        self.headers = (("authorization", f"Bearer {key}"),) if key else ()

    def export(self, prefix: str = "") -> dict[str, admin.ExportedSession]:
        request = admin.ExportSessionsRequest(prefix=prefix)
        answers = self.admin.ExportSessions(request, metadata=self.headers, timeout=60)
        return {each.session_id: each for answer in answers for each in answer.sessions}

    def open_many(self, names: list[str], *, model: str = "tiny", targets: int = 1, dated: bool = False) -> None:
        """Open sessions with two steps each."""
        seen = observations(*[1.0] * targets, *[2.0] * targets)
        if dated:
            seen.start_time.seconds = 1_700_006_400
        opening = forecast_pb2.OpenOptions(model=model)
        for at in range(0, len(names), 1000):
            some = names[at : at + 1000]
            requests = [pb.ForecastRequest(session_id=name, open=opening, observations=seen) for name in some]
            frame = pb.ForecastManyRequest(requests=requests)
            answer = self.forecasts.ForecastMany(frame, metadata=self.headers, timeout=60)
            assert {result.status.code for result in answer.results} == {0}


class Importing:
    """An open ImportSessions call whose frames are sent one by one."""

    def __init__(self, place: Place, *, replace: bool = False) -> None:
        self._frames: queue.SimpleQueue[admin.ImportSessionsRequest | None] = queue.SimpleQueue()
        self._replace = replace
        self.call = place.admin.ImportSessions(iter(self._frames.get, None), metadata=place.headers)

    def send(self, *sessions: admin.ExportedSession) -> None:
        self._frames.put(admin.ImportSessionsRequest(sessions=sessions, replace=self._replace))

    def ask(self, *sessions: admin.ExportedSession) -> list[admin.ImportResult]:
        self.send(*sessions)
        return list(next(self.call).results)

    def end(self) -> None:
        self._frames.put(None)
        assert not list(self.call)


@contextmanager
def thread_of(work: Any) -> Iterator[threading.Event]:
    """Run work until the block ends; it gets an event that is then set."""
    is_over = threading.Event()
    thread = threading.Thread(target=work, args=(is_over,))
    thread.start()
    try:
        yield is_over
    finally:
        is_over.set()
        thread.join(WAIT_SECONDS)


@pytest.fixture
def here(server: Server) -> Place:
    return Place(server)


@pytest.fixture(scope="module")
def there(any_redis: RedisProcess, models_folder: Path) -> Iterator[Place]:
    settings = Settings(redis_url=any_redis.url, models=models_folder, namespace="moving", snapshot_every=8)
    server = ServerThread(settings)
    yield Place(server)
    server.stop()


def test_an_export_under_load_tears_no_session(here: Place, there: Place, session_id: str) -> None:
    """Every exported session is one that a writer was told of, with the state that belongs to it."""
    names = [f"{session_id}-{number}" for number in range(8)]
    told: dict[str, list[pb.ForecastResponse]] = {name: [] for name in names}
    here.open_many(names)

    def write(is_over: threading.Event) -> None:
        while not is_over.is_set():
            for name in names:
                message = pb.ForecastRequest(session_id=name, observations=observations(float(len(told[name]))))
                told[name].append(here.forecasts.Forecast(message, timeout=20))

    with thread_of(write):
        await_true(lambda: len(told[names[-1]]) > 3)
        exports = [here.export(session_id) for _ in range(20)]
    importing = Importing(there, replace=True)
    for exported in (exports[0], exports[-1]):
        assert set(exported) == set(names)
        importing.ask(*exported.values())
        for name, session in exported.items():
            versions = {answer.version.step: answer.version for answer in told[name]}
            step = session.version.step
            assert session.version == versions[step]
            forecast = there.forecasts.Forecast(pb.ForecastRequest(session_id=name, horizon=HORIZON), timeout=20)
            assert forecast.version == session.version
            values = [1.0, 2.0, *(float(number) for number in range(step - 2))]
            assert_close(np.array(forecast.forecast.values).reshape(HORIZON, -1), expected(values)[:, :, 0])
    importing.end()
    assert exports[-1][names[0]].version.step > exports[0][names[0]].version.step


def _has_three(versions: list[forecast_pb2.Version]) -> bool:
    return len(versions) >= 3


def test_an_import_loses_no_commit_unnoticed(here: Place, there: Place, session_id: str) -> None:
    """What a replaced session had last acknowledged is what the import says that it has replaced."""
    here.open_many([session_id])
    (exported,) = here.export(session_id).values()
    importing = Importing(there, replace=True)
    importing.ask(exported)
    for _ in range(30):
        acknowledged = [exported.version]

        def write(is_over: threading.Event, versions: list[forecast_pb2.Version] = acknowledged) -> None:
            while not is_over.is_set():
                message = pb.ForecastRequest(
                    session_id=session_id, observations=observations(5.0), if_version=versions[-1]
                )
                try:
                    versions.append(there.forecasts.Forecast(message, timeout=20).version)
                except grpc.RpcError:  # at another version
                    return

        with thread_of(write) as is_over:
            await_true(partial(_has_three, acknowledged))
            (result,) = importing.ask(exported)
            is_over.wait(0.02)  # so that the writer notices
        if result.HasField("status"):
            assert reason(result.status) == "CONTENDED"
            (result,) = importing.ask(exported)
        assert result.outcome == admin.IMPORT_OUTCOME_REPLACED
        assert result.replaced_version == acknowledged[-1]
    importing.end()


def forged_sessions(model: Any, start: str) -> Iterator[admin.ExportedSession]:
    """Yield sessions of a model with intact records around states that no model has made."""
    chance, size = random.Random(model.name), model.state_bytes
    for number, fill in enumerate((b"\xff", b"\0\0\0\0\0\0\xf0\x7f", b"\x7f", b"\x80", None)):
        state = chance.randbytes(size) if fill is None else (fill * size)[:size]
        digest, width = bytes.fromhex(model.digest), len(model.targets) + len(model.covariates)
        snapshot = Snapshot(
            Version(2**61, 1), None, 60_000, model=model.name, model_version=model.version, model_digest=digest,
            width=width, state=state,
        )  # fmt: skip
        session = f"{start}-{model.name}-{number}"
        yield admin.ExportedSession(session_id=session, record=to_portable(session, Record(snapshot, (), b"")))


def test_forged_states_harm_no_other_session(any_redis: RedisProcess, tmp_path: Path, session_id: str) -> None:
    """Whoever may import may make up a state: a checksum is no signature. Only its own session may suffer."""
    models = write_rich_models(tmp_path)
    server = ServerThread(Settings(redis_url=any_redis.url, models=models, namespace=session_id))
    place = Place(server)
    listed: Any = ModelServiceStub(place.channel).ListModels(ListModelsRequest())
    importing = Importing(place)
    asked = []
    for model in listed.models:
        forged = list(forged_sessions(model, session_id))
        assert {each.outcome for each in importing.ask(*forged)} == {admin.IMPORT_OUTCOME_CREATED}
        for session in forged:
            seen = observations(*[1.0] * len(model.targets))
            if model.frequency:
                seen.start_time.seconds = 1_700_006_400
            asked.append(pb.ForecastRequest(session_id=session.session_id, horizon=3, observations=seen))
            name = f"good-{len(asked)}"
            place.open_many([name], model=model.name, targets=len(model.targets), dated=bool(model.frequency))
            asked.append(pb.ForecastRequest(session_id=name, horizon=3))
    importing.end()
    alone = [place.forecasts.Forecast(each, timeout=20) for each in asked[1::2]]
    answer = place.forecasts.ForecastMany(pb.ForecastManyRequest(requests=asked), timeout=30)
    assert {result.status.code for result in answer.results} == {0}
    for result, before in zip(answer.results[1::2], alone, strict=True):
        assert_close(list(result.response.forecast.values), list(before.forecast.values))
    server.stop()


def test_few_transfers_at_once(here: Place) -> None:
    open_ones = [Importing(here) for _ in range(2)]
    for each in open_ones:
        each.ask()
    code, status = failure(here.export)
    assert (code, reason(status)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAMS_FULL")
    for each in open_ones:
        each.end()
    await_true(lambda: here.export("none") == {})


@pytest.mark.parametrize("transport", ["grpc", "envoy"])
def test_a_server_that_stops_sends_transfers_away(
    any_redis: RedisProcess, models_folder: Path, session_id: str, transport: str
) -> None:
    options = ("--redis-url", any_redis.url, "--models", str(models_folder), "--namespace", session_id)
    server = ServerProcess(*options, "--transport", transport)
    place = Place(server)
    place.open_many(["a"])
    exported = place.export()["a"]
    importing = Importing(place)
    assert importing.ask(exported)[0].outcome == admin.IMPORT_OUTCOME_UNCHANGED
    server.process.terminate()
    code, status = failure(lambda: list(importing.call))
    assert (code, reason(status)) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert server.process.wait(WAIT_SECONDS) == 0


def test_a_failure_of_redis_ends_the_call_and_the_frame_may_be_sent_again(
    own_redis: RedisProcess, models_folder: Path
) -> None:
    server = ServerThread(Settings(redis_url=own_redis.url, models=models_folder, redis_timeout_seconds=0.5))
    place = Place(server)
    place.open_many(["a", "b"])
    exported = place.export().values()
    importing = Importing(place, replace=True)
    own_redis.kill()
    importing.send(*exported)
    code, status = failure(lambda: next(importing.call))
    assert (code, reason(status)) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNREACHABLE")
    assert failure(place.export)[0] is grpc.StatusCode.UNAVAILABLE
    own_redis.start()
    again = Importing(place, replace=True)
    assert [each.outcome for each in again.ask(*exported)] == [admin.IMPORT_OUTCOME_UNCHANGED] * 2
    again.end()
    server.stop()


def test_a_caller_that_goes_leaves_whole_sessions(own_redis: RedisProcess, models_folder: Path) -> None:
    server = ServerThread(Settings(redis_url=own_redis.url, models=models_folder, redis_timeout_seconds=20))
    place = Place(server)
    names = [f"s{number}" for number in range(50)]
    place.open_many(names)
    exported = place.export()
    own_redis.client.flushall()
    own_redis.pause()
    importing = Importing(place)
    importing.send(*exported.values())
    time.sleep(0.3)
    importing.call.cancel()
    own_redis.resume()
    await_true(lambda: set(place.export()) == set(names))
    assert {name: each.record for name, each in place.export().items()} == {
        name: each.record for name, each in exported.items()
    }
    server.stop()


def test_a_tenants_limits_hold(any_redis: RedisProcess, models_folder: Path, session_id: str, tmp_path: Path) -> None:
    limits, keys = tmp_path / "limits.toml", tmp_path / "keys.json"
    limits.write_text("[acme]\nsessions = 3\nrequests_per_second = 4\n")
    key, other = (api_keys.create(keys, tenant, "admin")[1] for tenant in ("acme", "other"))
    server = ServerThread(
        Settings(
            redis_url=any_redis.url, models=models_folder, namespace=session_id, api_keys=keys, tenant_limits=limits
        )
    )
    limited, free = Place(server, key), Place(server, other)
    free.open_many([f"s{number}" for number in range(5)])
    exported = list(free.export().values())
    importing = Importing(limited)
    started = time.monotonic()
    results = [importing.ask(session)[0] for session in exported]
    assert [reason(each.status) if each.HasField("status") else "" for each in results] == [
        "",
        "",
        "",
        *["QUOTA_EXCEEDED"] * 2,
    ]
    assert "sessions = 3" in results[-1].status.message
    for _ in range(5):
        importing.ask(exported[0])  # is there already
    assert time.monotonic() - started > 1.2  # ten frames, of which four may come at once
    importing.end()
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["grpc", "envoy"])
def test_many_sessions_take_little_memory(own_redis: RedisProcess, models_folder: Path, transport: str) -> None:
    options = ("--redis-url", own_redis.url, "--models", str(models_folder), "--transport", transport)
    server = ServerProcess(*options, "--cache-sessions", "10")
    place = Place(server)
    names = [f"pump {number}" for number in range(10_000)]
    place.open_many(names)
    place.export("pump 1")  # everything is loaded now
    before = server.engine.memory_info().rss
    exported = place.export()
    assert set(exported) == set(names)
    importing = Importing(place)
    sessions = list(exported.values())
    for at in range(0, len(sessions), 64):
        assert {each.outcome for each in importing.ask(*sessions[at : at + 64])} == {admin.IMPORT_OUTCOME_UNCHANGED}
    own_redis.client.flushall()
    for at in range(0, len(sessions), 64):
        assert {each.outcome for each in importing.ask(*sessions[at : at + 64])} == {admin.IMPORT_OUTCOME_CREATED}
    importing.end()
    assert server.engine.memory_info().rss - before < 40 * 2**20
    assert {name: each.record for name, each in place.export().items()} == {
        name: each.record for name, each in exported.items()
    }
    assert server.stop() == 0
