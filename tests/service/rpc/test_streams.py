"""ForecastStream with raw stubs."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from support import WAIT_SECONDS, await_true
from support.models import HORIZON
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread
from support.wire import OPEN, failure, observations, reason

from statecast.service.settings import Settings
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub


class Stream:
    """Open a stream whose frames are sent one by one."""

    def __init__(self, stub: ForecastServiceStub) -> None:
        self._frames: queue.SimpleQueue[pb.ForecastStreamRequest | None] = queue.SimpleQueue()
        self.call: Any = stub.ForecastStream(iter(self._frames.get, None))

    def send(self, *requests: pb.ForecastRequest) -> None:
        self._frames.put(pb.ForecastStreamRequest(requests=requests))

    def finish(self) -> None:
        self._frames.put(None)

    def results(self) -> Iterator[pb.ForecastResult]:
        for frame in self.call:
            yield from frame.results


def request(session_id: str, *values: float, **others: Any) -> pb.ForecastRequest:
    others.setdefault("horizon", HORIZON)
    return pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(*values), **others)


def test_every_request_is_answered_and_an_error_ends_nothing(stub: ForecastServiceStub, session_id: str) -> None:
    stream = Stream(stub)
    stream.send(
        request(session_id, 1, request_id="a"),
        request("", 1, request_id="b"),
        request(session_id, 2, 3, request_id="c", horizon=0),
        pb.ForecastRequest(session_id=session_id + "-missing", request_id="d"),
    )
    results = stream.results()
    found = {result.response.request_id or result.request_id: result for result in (next(results) for _ in range(4))}
    assert found["a"].response.version.step == 1
    assert len(found["a"].response.forecast.values) == 3 * HORIZON
    assert found["b"].status.code == code_pb2.INVALID_ARGUMENT
    assert found["c"].response.version.step == 3
    assert (found["d"].status.code, found["d"].session_id) == (code_pb2.NOT_FOUND, session_id + "-missing")
    stream.send(request(session_id, 1, request_id="a"))
    assert next(results).response.replayed
    stream.finish()
    assert not list(results)
    assert stream.call.code() is grpc.StatusCode.OK


def test_requests_of_a_session_are_applied_in_the_order_given(stub: ForecastServiceStub, session_id: str) -> None:
    stream = Stream(stub)
    for at in range(20):
        stream.send(*(request(session_id, 50 * at + each, horizon=0) for each in range(50)))
    stream.finish()
    steps = [result.response.version.step for result in stream.results()]
    assert steps == list(range(1, 1001))
    whole = stub.Forecast(request(session_id + "-whole", *range(1000))).version
    assert stub.GetSession(pb.GetSessionRequest(session_id=session_id)).session.version == whole


@pytest.mark.parametrize("frame", [b"\x0a\x02\xff\xfe", None])
def test_a_frame_that_cannot_be_ends_the_stream(channel: grpc.Channel, session_id: str, frame: bytes | None) -> None:
    call: Any = channel.stream_stream(
        "/statecast.v1.ForecastService/ForecastStream", response_deserializer=pb.ForecastStreamResponse.FromString
    )
    many = pb.ForecastStreamRequest(requests=[request(session_id, 1)] * 4097)
    code, _ = failure(lambda: list(call(iter([frame or many.SerializeToString()]))))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_slow_reader_holds_up_its_own_stream_and_nothing_else(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    server = ServerProcess("--redis-url", any_redis.url, "--models", str(models_folder), "--namespace", session_id)
    with grpc.insecure_channel(server.target) as channel, grpc.insecure_channel(server.target) as other:
        stub = ForecastServiceStub(channel)
        sent = 0

        def frames() -> Iterator[pb.ForecastStreamRequest]:
            nonlocal sent
            for at in range(10_000):
                requests = [
                    request(f"{session_id}-{each}", at, quantile_levels=[0.5] * 128, request_id=f"{at}-{each}")
                    for each in range(50)
                ]
                sent += 50
                yield pb.ForecastStreamRequest(requests=requests)

        call: Any = stub.ForecastStream(frames())
        first = next(call)
        process = server.engine
        before = process.memory_info().rss

        def has_stopped_reading(seen: list[int]) -> bool:
            seen.append(sent)
            threading.Event().wait(0.5)
            return seen[-1] == sent

        await_true(lambda: has_stopped_reading([]))
        assert sent < 100_000
        assert process.memory_info().rss - before < 100 * 2**20
        answer = ForecastServiceStub(other).Forecast(request("somebody", 1), timeout=5)
        assert answer.version.step == 1
        read = len(first.results)
        while read < sent - 20_000:
            read += len(next(call).results)
        call.cancel()
    assert server.stop() == 0


def test_too_many_streams_are_turned_away(any_redis: RedisProcess, models_folder: Path, session_id: str) -> None:
    settings = Settings(redis_url=any_redis.url, models=models_folder, namespace="few", max_streams=3)
    server = ServerThread(settings)
    with grpc.insecure_channel(server.target) as channel:
        stub = ForecastServiceStub(channel)
        streams = [Stream(stub) for _ in range(3)]
        for stream in streams:
            stream.send(request(session_id, 1))
            assert next(stream.results()).response.session_id == session_id
        code, status = failure(lambda: list(Stream(stub).results()))
        assert (code, reason(status)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAMS_FULL")
        streams[0].finish()
        assert not list(streams[0].results())
        stream = Stream(stub)
        stream.send(request(session_id, 1))
        assert next(stream.results()).response.version.step == 4
        for each in (*streams[1:], stream):
            each.call.cancel()
    server.stop()


def test_streams_are_sent_away_when_the_server_leaves(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    server = ServerProcess("--redis-url", any_redis.url, "--models", str(models_folder), "--namespace", session_id)
    with grpc.insecure_channel(server.target) as channel:
        stream = Stream(ForecastServiceStub(channel))
        stream.send(request(session_id, 1))
        results = stream.results()
        assert next(results).response.version.step == 1
        server.process.terminate()
        code, status = failure(lambda: list(results))
        assert (code, reason(status)) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert server.process.wait(WAIT_SECONDS) == 0


def test_streams_that_nobody_reads_leave_others_their_turn(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    server = ServerThread(
        Settings(
            redis_url=any_redis.url, models=models_folder, namespace=session_id, queue_mib=2, queue_requests=100_000
        )
    )
    sent = 0

    def many(stream: int) -> Iterator[pb.ForecastStreamRequest]:
        nonlocal sent
        for at in range(2000):
            requests = [request(f"{stream}-{each}", at, quantile_levels=[0.5] * 128) for each in range(50)]
            sent += 50
            yield pb.ForecastStreamRequest(requests=requests)

    channels = [grpc.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)]
    *unread, modest = (ForecastServiceStub(channel) for channel in channels)
    calls: list[Any] = [stub.ForecastStream(many(number)) for number, stub in enumerate(unread)]

    def has_stopped_reading() -> bool:
        before = sent
        threading.Event().wait(0.5)
        return before == sent

    await_true(has_stopped_reading)
    assert sent < 35_000  # 16,000 with the room of all streams, 56,000 with that of each alone
    asked: queue.Queue[pb.ForecastStreamRequest | None] = queue.Queue()
    answers: Any = modest.ForecastStream(iter(asked.get, None))
    for at in range(5):
        asked.put(pb.ForecastStreamRequest(requests=[request("modest", at)]))
        assert next(answers).results[0].response.version.step == at + 1
    asked.put(None)
    for call in calls:
        call.cancel()
    for channel in channels:
        channel.close()
    server.stop()
