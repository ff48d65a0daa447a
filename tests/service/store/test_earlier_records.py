"""Records that servers of earlier releases have written are read, are written as before, and can be upgraded.

Such servers made `records/format_4_*.json`, with sessions on `support.models.write_rich_models`, and the outlines of
these models, whose states had another layout.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service.store.test_formats import written_again
from support.models import shop_model, symbol_model, tiny_model, write_rich_models
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client, PreconditionFailed
from statecast.model import Classifier, Forecaster, save_model
from statecast.service.settings import Settings
from statecast.service.store.record import decode

RECORDS = Path(__file__).parent / "records"
RELEASES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(RECORDS.glob("format_4_*.json"))
}
SESSIONS = [(release, name) for release, sessions in RELEASES.items() for name in sessions]
LIFETIME_MS = 40 * 86_400_000


@pytest.fixture(scope="module")
def place(any_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RedisProcess]:
    """A folder with the models of these sessions, and a second version of each; and Redis with the records."""
    folder: Path = write_rich_models(tmp_path_factory.mktemp("earlier"))
    for name in ("tiny", "hourly"):
        save_model(tiny_model(name, version="2", seed=2), folder / name / "2")
    save_model(Forecaster(replace(shop_model().config, version="2")), folder / "shop" / "2")
    save_model(Classifier(replace(symbol_model().config, version="2")), folder / "letters" / "2")
    for release, sessions in RELEASES.items():
        for name, session in sessions.items():
            data = base64.b64decode(session["record"])
            any_redis.client.set(f"{release}:default:{name}", data, px=LIFETIME_MS)
        for digest, outline in json.loads((RECORDS / "outlines.json").read_text()).items():
            any_redis.client.set(f"{release}::outline:{digest}", json.dumps(outline).encode() + bytes(16))
    return folder, any_redis


@pytest.fixture(scope="module", params=list(RELEASES))
def release(request: pytest.FixtureRequest, place: tuple[Path, RedisProcess]) -> Iterator[tuple[str, Any]]:
    folder, redis = place
    server = ServerThread(Settings(redis_url=redis.url, models=folder, namespace=request.param))
    with Client(server.target) as client:
        yield request.param, client
    server.stop()


@pytest.mark.parametrize(("release_name", "name"), SESSIONS)
def test_it_is_read_and_written_byte_for_byte(release_name: str, name: str) -> None:
    data = base64.b64decode(RELEASES[release_name][name]["record"])
    record = decode(name, data)
    assert record.newest.version.step == RELEASES[release_name][name]["step"]
    assert (record.snapshot.binding, record.snapshot.upgrades) == (None, {})
    assert written_again(name, data) == data


def test_its_sessions_move(release: tuple[str, Any]) -> None:
    name_of_release, client = release
    for name, told in RELEASES[name_of_release].items():
        session, at = client.session(name), (told["step"], told["tag"])
        if name == "word":  # its layout is still the same
            forecast = session.forecast(3)
            assert (forecast.version.step, f"{forecast.version.tag:016x}") == at
            np.testing.assert_allclose(forecast.values.ravel(), told["forecast"], rtol=1e-3)
            with pytest.raises(PreconditionFailed) as caught:
                session.upgrade(model_version="2")
            assert caught.value.reason == "HISTORY_NEEDED"
            continue
        with pytest.raises(PreconditionFailed) as caught:
            session.forecast(6)
        assert caught.value.reason == "MODEL_CHANGED"
        moved = session.upgrade(model_version="2")
        assert (moved.version.step, f"{moved.version.tag:016x}") == at
        assert (moved.reencoded_steps, moved.model_version) == (told["step"], "2")
        assert session.forecast(6).version == moved.version


def test_the_sessions_of_a_bundled_model_move(any_redis: RedisProcess) -> None:
    record = json.loads((RECORDS / "base_1.json").read_text())
    any_redis.client.set("bundled:default:meter", base64.b64decode(record["record"]), px=LIFETIME_MS)
    server = ServerThread(Settings(redis_url=any_redis.url, namespace="bundled"))
    with Client(server.target) as client:
        moved = client.session("meter").upgrade(model_version="2")
        assert (moved.version.step, f"{moved.version.tag:016x}") == (record["step"], record["tag"])
        assert moved.reencoded_steps == record["step"]
        forecast = client.session("meter").forecast(24)
    server.stop()
    np.testing.assert_allclose(forecast.median[:24], record["next"], atol=0.5)
