"""Frames: requests are answered separately, and none overtakes an earlier one of its session."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.redis_process import RedisProcess
from support.servers import ServerThread
from support.wire import OPEN, observations

from statecast.service.engine.request import Request, Ticket
from statecast.service.errors import Overloaded, ServiceError
from statecast.service.rpc.accounting import Accounts
from statecast.service.rpc.engine_client import EngineClient
from statecast.service.settings import Settings
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.reasons import Reason


@pytest.fixture(scope="session")
def server(any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerThread]:
    """A server in this process, whose code a test can change."""
    server = ServerThread(Settings(redis_url=any_redis.url, models=models_folder, namespace="shared"))
    yield server
    server.stop()


def test_nothing_overtakes_what_was_turned_away(
    stub: ForecastServiceStub, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = EngineClient.submit

    def full_for_a_moment(
        engine_client: EngineClient, ticket: Ticket, requests: Sequence[Request]
    ) -> tuple[int, ServiceError | None]:
        for position, request in enumerate(requests):
            if request.values.tolist() == [2.0]:
                submit(engine_client, ticket, requests[:position])
                return position, Overloaded("no room for this one", Reason.QUEUE_FULL, 0.1)
        return submit(engine_client, ticket, requests)

    monkeypatch.setattr(EngineClient, "submit", full_for_a_moment)
    requests = [
        pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(value)) for value in (1, 2, 3)
    ]
    results = stub.ForecastMany(pb.ForecastManyRequest(requests=requests)).results
    assert [result.WhichOneof("result") for result in results] == ["response", "status", "status"]
    assert stub.GetSession(pb.GetSessionRequest(session_id=session_id)).session.version.step == 1


def test_what_cannot_be_counted_is_answered_all_the_same(
    stub: ForecastServiceStub, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Accounts, "all_succeeded", fail)
    requests = [
        pb.ForecastRequest(session_id=f"{session_id}-{number}", open=OPEN, observations=observations(1.0))
        for number in range(3)
    ]
    results = stub.ForecastMany(pb.ForecastManyRequest(requests=requests), timeout=20).results
    assert [result.WhichOneof("result") for result in results] == ["response"] * 3
