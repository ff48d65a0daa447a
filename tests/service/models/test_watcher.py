"""Model versions that appear, change and disappear while a server runs."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
import torch
from google.rpc import error_details_pb2
from support import await_true
from support.models import tiny_model
from support.redis_process import RedisProcess
from support.servers import ServerThread
from support.wire import detail, failure, observations, reason

from statecast.model import Forecaster, save_model
from statecast.service.errors import StartupError, Unavailable
from statecast.service.log import AUDIT
from statecast.service.models import watcher
from statecast.service.models.registry import Model, Registry, load_registry
from statecast.service.settings import Settings
from statecast.v1 import forecast_pb2, model_service_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.model_service_pb2_grpc import ModelServiceStub
from statecast.v1.reasons import Reason

POLL_SECONDS = 0.05
MANY_POLLS_SECONDS = 0.5


@cache  # one draw: a server that loads in another thread uses the same generator
def trained(version: str, seed: int) -> Forecaster:
    """Return a version of "tiny" with its own head: untrained heads are all equal."""
    model = tiny_model(version=version, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return model


class Place:
    """A server and its models folder, which holds version 1 of "tiny"."""

    def __init__(self, redis: RedisProcess, folder: Path, namespace: str, poll_seconds: float = POLL_SECONDS) -> None:
        self.folder = folder
        if not folder.exists():
            self.write("1")
        self.server = ServerThread(
            Settings(redis_url=redis.url, models=folder, models_poll_seconds=poll_seconds, namespace=namespace)
        )
        self.channel = grpc.insecure_channel(self.server.target)
        self.sessions = ForecastServiceStub(self.channel)
        self.models: Any = ModelServiceStub(self.channel)

    def write(self, version: str, seed: int = 0, *, folder: str = "") -> Path:
        """Add a version of "tiny" to the folder atomically."""
        unseen = self.folder.with_name("unseen")
        save_model(trained(version, seed), unseen)
        place = self.folder / "tiny" / (folder or version)
        place.parent.mkdir(parents=True, exist_ok=True)
        return unseen.rename(place)

    def versions(self) -> list[str]:
        listed = self.models.ListModels(model_service_pb2.ListModelsRequest())
        return [model.version for model in listed.models if model.name == "tiny"]

    def await_versions(self, *versions: str) -> None:
        await_true(lambda: self.versions() == list(versions))

    def step(self, session_id: str, version: str = "") -> pb.ForecastResponse:
        """Append three observations to a session, opened if it does not exist, and forecast."""
        return self.sessions.Forecast(
            pb.ForecastRequest(
                session_id=session_id,
                open=forecast_pb2.OpenOptions(model="tiny", model_version=version),
                observations=observations(1.0, 3.0, 2.0),
                horizon=2,
            )
        )

    def version_of(self, session_id: str) -> str:
        return self.sessions.GetSession(pb.GetSessionRequest(session_id=session_id)).session.model_version

    def stop(self) -> None:
        self.channel.close()
        self.server.stop()


MakePlace = Callable[..., Place]


@pytest.fixture
def make_place(any_redis: RedisProcess, tmp_path: Path, session_id: str) -> Iterator[MakePlace]:
    places: list[Place] = []

    def make(**others: Any) -> Place:
        places.append(Place(any_redis, tmp_path / "models", session_id, **others))
        return places[-1]

    yield make
    for place in places:
        place.stop()


def told(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_a_new_version_is_for_new_sessions(make_place: MakePlace) -> None:
    place = make_place()
    first = place.step("old")
    place.write("10", seed=1)
    place.await_versions("10", "1")
    place.write("9", seed=2)
    place.await_versions("10", "9", "1")
    save_model(tiny_model("three"), place.folder / "three" / "1")
    assert place.step("new").forecast != first.forecast
    assert place.step("pinned", "1").forecast == first.forecast
    assert place.step("old").version.step == 6
    assert [place.version_of(name) for name in ("old", "new", "pinned")] == ["1", "10", "1"]
    assert place.models.GetModel(model_service_pb2.GetModelRequest(name="tiny")).model.version == "10"
    metrics = urlopen(place.server.metrics_url).read().decode()
    for version, seed in (("1", 0), ("9", 2), ("10", 1)):
        digest = trained(version, seed).digest
        assert f'statecast_model_info{{digest="{digest}",model="tiny",model_version="{version}"}} 1.0' in metrics
    await_true(lambda: "three" in str(place.models.ListModels(model_service_pb2.ListModelsRequest())))


def test_a_half_written_version_waits_and_is_told_once(make_place: MakePlace, caplog: pytest.LogCaptureFixture) -> None:
    place = make_place()
    whole = place.write("2", folder=".2.partial")
    save_model(tiny_model("three"), place.folder / ".incoming" / "1")
    half = place.folder / "tiny" / "2"
    half.mkdir()
    await_true(lambda: told(caplog, "config.json: cannot be read") == 1)
    shutil.copy(whole / "config.json", half)
    await_true(lambda: told(caplog, "model.safetensors: cannot be read") == 1)
    time.sleep(MANY_POLLS_SECONDS)
    assert place.step("a").version.step == 3
    assert reason(failure(lambda: place.step("b", "2"))[1]) == "MODEL_UNAVAILABLE"
    assert place.versions() == ["1"]
    shutil.copy(whole / "model.safetensors", half)
    place.await_versions("2", "1")
    assert told(caplog, "cannot be loaded") == 2
    assert place.step("b", "2").opened


def test_broken_weights_are_told_once_and_loaded_once_repaired(
    make_place: MakePlace, caplog: pytest.LogCaptureFixture
) -> None:
    place = make_place()
    broken = place.write("2", folder=".2")
    weights = broken / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:100])
    weights = broken.rename(broken.with_name("2")) / weights.name
    place.write("5", folder="4")
    await_true(lambda: told(caplog, "tiny/2 cannot be loaded") >= 1 and told(caplog, "move the folder to tiny/5/") == 1)
    time.sleep(MANY_POLLS_SECONDS)
    assert told(caplog, "cannot be loaded") == 2
    assert place.versions() == ["1"]
    place.write("3")
    place.await_versions("3", "1")
    weights.write_bytes(good)
    place.await_versions("3", "2", "1")


def test_what_is_loaded_is_served_whatever_becomes_of_its_files(
    make_place: MakePlace, caplog: pytest.LogCaptureFixture
) -> None:
    place = make_place()
    place.write("2")
    place.await_versions("2", "1")
    before = place.step("a")
    save_model(tiny_model("tiny", seed=5), place.folder / "tiny" / "1")
    save_model(tiny_model("tiny"), place.folder / "base" / "2")  # the bundled one is different
    await_true(lambda: told(caplog, "the files of model tiny version 1 have changed") == 1)
    await_true(lambda: told(caplog, "model base version 2 is new in the models folder") == 1)
    shutil.rmtree(place.folder / "tiny" / "2")
    await_true(lambda: told(caplog, "model tiny version 2 was removed") == 1)
    time.sleep(MANY_POLLS_SECONDS)
    assert place.step("b").forecast == before.forecast
    assert place.step("a").version.step == 6
    assert place.step("c", "1").forecast.values
    assert place.versions() == ["2", "1"]
    assert len(caplog.records) == 3


def test_a_folder_that_vanishes_for_a_moment_is_told_once(
    make_place: MakePlace, caplog: pytest.LogCaptureFixture
) -> None:
    place = make_place()
    away = place.folder.rename(place.folder.with_name("away"))
    await_true(lambda: told(caplog, "cannot be read (No such file or directory)") == 1)
    time.sleep(MANY_POLLS_SECONDS)
    assert place.step("a").version.step == 3
    away.rename(place.folder)
    place.write("2")
    place.await_versions("2", "1")
    assert len(caplog.records) == 1


def test_nobody_looks_if_told_so(make_place: MakePlace) -> None:
    place = make_place(poll_seconds=0.0)
    place.write("2")
    time.sleep(MANY_POLLS_SECONDS)
    assert failure(lambda: place.step("a", "2"))[0] is grpc.StatusCode.NOT_FOUND
    assert place.versions() == ["1"]


def test_a_version_that_is_asked_for_before_it_is_loaded_can_be_asked_for_again(make_place: MakePlace) -> None:
    place = make_place(poll_seconds=60.0)
    place.write("2")
    for version in ("../tiny/2", ".", "..", "3", "2/", "2\0"):
        assert failure(partial(place.step, "a", version))[0] is grpc.StatusCode.NOT_FOUND
    assert place.versions() == ["1"]
    code, status = failure(lambda: place.step("a", "2"))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert detail(status, error_details_pb2.RetryInfo).retry_delay.seconds == 1
    assert reason(status) == "MODEL_LOADING"
    place.await_versions("2", "1")
    assert place.step("a", "2").opened


def test_a_session_whose_version_another_replica_loaded_first_is_refused_only_until_it_is_loaded(
    make_place: MakePlace,
) -> None:
    late, early = make_place(poll_seconds=60.0), make_place()
    early.write("2")
    early.await_versions("2", "1")
    early.step("new")
    requests = [pb.ForecastRequest(session_id=name) for name in ("new", "other")]
    late.step("other", "1")
    results = late.sessions.ForecastMany(pb.ForecastManyRequest(requests=requests)).results
    assert [result.status.code for result in results] == [grpc.StatusCode.UNAVAILABLE.value[0], 0]
    assert reason(results[0].status) == "MODEL_LOADING"
    late.await_versions("2", "1")
    assert late.step("new").version.step == 6


def test_a_version_that_takes_long_to_load_holds_nobody_up(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(folder: Path, device: torch.device) -> Model:
        begun.set()
        go_on.wait()
        return Model(tiny_model(version=folder.name))

    monkeypatch.setattr(watcher, "load_folder", slow)
    monkeypatch.setattr(watcher, "STOP_SECONDS", 0.1)
    place = make_place()
    place.write("2")
    assert begun.wait(10)
    for step in (3, 6, 9):
        assert place.step("a").version.step == step
    assert place.versions() == ["1"]
    go_on.set()
    place.await_versions("2", "1")
    begun.clear()
    go_on.clear()
    place.write("3")
    assert begun.wait(10)
    started = time.monotonic()
    place.server.stop()
    assert time.monotonic() - started < 5
    assert told(caplog, "did not stop within 0.1 s") == 1
    go_on.set()


def test_what_fails_for_another_reason_is_tried_again(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def short_of_memory(folder: Path, device: torch.device) -> Model:
        tries.append(folder)
        if len(tries) < 4:
            raise MemoryError("no room")
        return Model(tiny_model(version=folder.name))

    monkeypatch.setattr(watcher, "load_folder", short_of_memory)
    monkeypatch.setattr(watcher, "RETRY_SECONDS", 0.1)
    place = make_place()
    place.write("2")
    place.await_versions("2", "1")
    assert told(caplog, "no room") == 1


def test_hidden_folders_are_no_models_at_the_start_either(tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "tiny" / "1")
    save_model(tiny_model(), tmp_path / "tiny" / ".2")
    save_model(tiny_model(), tmp_path / ".tiny" / "3")
    registry = load_registry(tmp_path, "tiny", torch.device("cpu"))
    assert [str(model) for model in registry] == ["base version 2", "tiny version 1"]
    save_model(tiny_model(), tmp_path / "tiny" / "2")
    with pytest.raises(StartupError, match="describes tiny version 1; move the folder to tiny/1/"):
        load_registry(tmp_path, "tiny", torch.device("cpu"), require_all=True)


def test_one_broken_version_at_the_start_leaves_the_others_served(
    make_place: MakePlace, caplog: pytest.LogCaptureFixture
) -> None:
    """Its sessions are unavailable until its files are repaired; `open` without a version takes a loaded one."""
    before = make_place()
    before.write("2", seed=1)
    before.await_versions("2", "1")
    stands = before.step("old", "2").version
    before.server.stop()
    weights = before.folder / "tiny" / "2" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    place = make_place()
    assert place.versions() == ["1"]
    assert told(caplog, "tiny/2 cannot be loaded") >= 1
    metrics = urlopen(place.server.metrics_url).read().decode()
    assert 'statecast_model_unavailable{model="tiny",model_version="2"} 1.0' in metrics
    for ask in (lambda: place.step("old"), lambda: place.step("new", "2")):
        code, status = failure(ask)
        assert (code, reason(status)) == (grpc.StatusCode.UNAVAILABLE, "MODEL_UNAVAILABLE")
        assert detail(status, error_details_pb2.RetryInfo).retry_delay.seconds == 60
    assert place.step("newest").version.step == 3
    time.sleep(MANY_POLLS_SECONDS)
    assert reason(failure(lambda: place.step("old"))[1]) == "MODEL_UNAVAILABLE"
    weights.write_bytes(whole)
    place.await_versions("2", "1")
    assert place.step("old").version.step == stands.step + 3
    assert "statecast_model_unavailable{" not in urlopen(place.server.metrics_url).read().decode()


def test_a_default_model_that_is_broken_keeps_the_server_down(tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "tiny" / "1")
    (tmp_path / "tiny" / "1" / "model.safetensors").write_bytes(b"")
    with pytest.raises(StartupError, match=r"default-model 'tiny': model in .* cannot be loaded"):
        load_registry(tmp_path, "tiny", torch.device("cpu"))
    registry = load_registry(tmp_path, "base", torch.device("cpu"))
    with pytest.raises(Unavailable) as caught:
        registry.get("tiny", "")
    assert caught.value.reason is Reason.MODEL_UNAVAILABLE


def test_readers_of_a_registry_see_a_version_whole_or_not_at_all() -> None:
    registry = Registry([Model(tiny_model(version="0"))], "tiny")
    models = [Model(tiny_model(version=str(version))) for version in range(1, 50)]
    before = iter(registry)
    first = next(before)
    over = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not over.is_set():
            seen.append(int(registry.get("", "").config.version))
            seen.append(int(next(iter(registry)).config.version))

    thread = threading.Thread(target=read)
    thread.start()
    for model in models:
        registry.add(model)
        time.sleep(0.0005)
    over.set()
    thread.join()
    assert seen == sorted(seen)
    assert [first, *before] == [first]
    assert registry.get("tiny", "7") is models[6]


def test_a_version_that_is_loaded_is_in_the_audit_log(make_place: MakePlace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place = make_place()
    place.write("2", 2)
    place.await_versions("2", "1")

    def audited() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == AUDIT]

    await_true(lambda: bool(audited()))  # it is served a moment earlier
    (record,) = audited()
    fields = record.__dict__["fields"]
    assert (fields["model"], fields["version"]) == ("tiny", "2")
    assert len(fields["digest"]) > 8
