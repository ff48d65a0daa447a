"""Both clients upgrade sessions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client.conftest import MakeClient
from support.models import HORIZON, tiny_model
from support.proxy import Proxy, lose
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import InvalidArgument, PreconditionFailed, Upgraded, VersionMismatch
from statecast.model import save_model
from statecast.service.settings import Settings

VALUES = [float(10 + at % 7) for at in range(40)]


@pytest.fixture(scope="module")
def upgrading_server(any_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    folder: Path = tmp_path_factory.mktemp("versions")
    for version in ("1", "2"):
        save_model(tiny_model(version=version, seed=int(version)), folder / "tiny" / version)
    save_model(tiny_model("hourly"), folder / "hourly" / "1")
    thread = ServerThread(Settings(redis_url=any_redis.url, models=folder, namespace="versions", default_model="tiny"))
    yield thread
    thread.stop()


@pytest.fixture
def client(make_client: MakeClient, upgrading_server: ServerThread) -> Any:
    return make_client(upgrading_server.target)


def test_a_session_moves_exactly_or_by_what_it_keeps(client: Any, session_id: str) -> None:
    session = client.session(session_id, model_version="1")
    version = session.observe(VALUES).version
    moved = session.upgrade(model_version="2", if_version=version)
    assert moved == Upgraded(version, "tiny", "2", moved.reencoded_steps, False, False)
    assert moved.reencoded_steps == 24
    exact = session.upgrade(values=VALUES)
    assert (exact.version, exact.reencoded_steps, exact.exact) == (version, 40, True)
    reference = client.session(session_id + "-reference", model_version="2")
    reference.observe(VALUES)
    assert session.forecast(HORIZON).median == pytest.approx(reference.forecast(HORIZON).median, rel=1e-5)
    later = session.observe([1.0, 2.0]).version
    since = session.upgrade("tiny", model_version="1", values=[1.0, 2.0], since=version)
    assert (since.version, since.model_version, since.exact) == (later, "1", False)
    assert client.session(session_id, model_version="2", upgrade=True).forecast(HORIZON).version == later
    assert session.info().model_version == "2"


def test_what_is_wrong_is_said(client: Any, session_id: str) -> None:
    session = client.session(session_id, model_version="1")
    version = session.observe([1.0, 2.0]).version
    with pytest.raises(InvalidArgument, match="they are as many, but other ones than it has taken"):
        session.upgrade(model_version="2", values=[1.0, 3.0])
    with pytest.raises(InvalidArgument, match="since: given without observations"):
        session.upgrade(model_version="2", since=version)
    with pytest.raises(InvalidArgument, match="write NAME@ALIAS"):
        session.upgrade("tiny@")
    with pytest.raises(PreconditionFailed) as caught:
        session.upgrade("hourly")
    assert caught.value.reason == "OTHER_FREQUENCY"
    session.observe(3.0)
    with pytest.raises(VersionMismatch):
        session.upgrade(model_version="2", if_version=version)


def test_a_repeated_call_is_a_replay(client: Any, session_id: str) -> None:
    session = client.session(session_id, model_version="1")
    session.observe([1.0, 2.0])
    assert not session.upgrade(model_version="2", request_id="once").replayed
    session.upgrade(model_version="1")
    again = session.upgrade(model_version="2", request_id="once")
    assert (again.replayed, again.model_version) == (True, "1")


def test_an_answer_that_is_lost_is_asked_for_again(
    make_client: MakeClient, upgrading_server: ServerThread, session_id: str
) -> None:
    proxy = Proxy(upgrading_server.target)
    try:
        client = make_client(proxy.target)
        session = client.session(session_id, model_version="1")
        session.observe([1.0, 2.0])
        proxy.faults.append(lose)
        moved = session.upgrade(model_version="2")
        assert (moved.replayed, moved.model_version) == (True, "2")
    finally:
        proxy.stop()
