"""Limits, metrics, the log and Redis know inference requests as they know all others."""

import json
import queue
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import await_true
from support.inference import infer, step, tensor
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import failure, reason

from statecast.oip import inference_service_pb2 as pb
from statecast.oip.inference_service_pb2_grpc import GRPCInferenceServiceStub
from statecast.service.access import api_keys

QUOTAS = """
[acme]
streams = 1
sessions = 2
"""


class Seen:
    """A server with a limited tenant, which logs all requests."""

    def __init__(self, redis: RedisProcess, models: Path, folder: Path, transport: str) -> None:
        keys, limits = folder / "keys.json", folder / "limits.toml"
        limits.write_text(QUOTAS)
        self.key_id, self.key = api_keys.create(keys, "acme", "write")
        self.admin = api_keys.create(keys, "acme", "admin")[1]
        options = ("--redis-url", redis.url, "--namespace", folder.name, "--models", str(models))
        access = ("--api-keys", str(keys), "--tenant-limits", str(limits))
        chatty = ("--log-format", "json", "--log-level", "debug")
        self.server = ServerProcess("--transport", transport, *options, *access, *chatty)
        self.channel = grpc.insecure_channel(self.server.target)
        self.stub: Any = GRPCInferenceServiceStub(self.channel)
        self.headers = (("authorization", f"Bearer {self.key}"),)

    def infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        answer: pb.ModelInferResponse = self.stub.ModelInfer(request, metadata=self.headers, timeout=20)
        return answer

    def stream(self, requests: Iterator[pb.ModelInferRequest]) -> Any:
        return self.stub.ModelStreamInfer(requests, metadata=self.headers, timeout=20)

    def refused(self, request: pb.ModelInferRequest) -> str:
        code, status = failure(lambda: self.infer(request))
        return f"{code.name} {reason(status)}"

    def counts(self, name: str, *labels: str) -> Counter[tuple[str, ...]]:
        url = f"http://127.0.0.1:{self.server.metrics_port}/metrics"
        asked = urllib.request.Request(url, headers={"authorization": f"Bearer {self.admin}"})
        page = urllib.request.urlopen(asked).read().decode()
        found: Counter[tuple[str, ...]] = Counter()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == name and sample.value:
                    found[tuple(sample.labels[label] for label in labels)] += int(sample.value)
        return found

    def told(self, message: str) -> list[dict[str, Any]]:
        events = map(json.loads, self.server.log.splitlines())
        return [event for event in events if event["message"] == message]


@pytest.fixture(params=["grpc", "envoy"])
def seen(
    request: pytest.FixtureRequest, any_redis: RedisProcess, models_folder: Path, tmp_path: Path
) -> Iterator[Seen]:
    seen = Seen(any_redis, models_folder, tmp_path, request.param)
    yield seen
    seen.channel.close()
    seen.server.stop()


def test_one_server_limits_counts_and_logs_them(seen: Seen) -> None:
    for sequence in ("a", "a", "b"):  # a restart needs no room
        seen.infer(infer(sequence, 1, start=True))
    assert seen.refused(infer("c", 1, start=True)) == "RESOURCE_EXHAUSTED QUOTA_EXCEEDED"
    (answer,) = seen.stream(iter([infer("c", 1, start=True)]))
    assert "has as many sessions as its limit sessions allows" in answer.error_message

    asked: queue.Queue[pb.ModelInferRequest | None] = queue.Queue()
    held = seen.stream(iter(asked.get, None))
    asked.put(infer("a", 2))
    assert step(next(held).infer_response) == 2
    code, status = failure(lambda: list(seen.stream(iter([infer("a", 3)]))))
    assert (code.name, reason(status)) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    asked.put(infer("b", 2, end=True, id="not told"))
    assert step(next(held).infer_response) == 2
    asked.put(None)
    assert not list(held)

    too_large = infer("a", 8.7654321e30)
    assert seen.refused(too_large) == "INVALID_ARGUMENT INVALID_FIELD"
    too_large.inputs[0].contents.fp32_contents.append(8.7654321e30)
    too_large.ClearField("raw_input_contents")
    assert seen.refused(too_large) == "INVALID_ARGUMENT INVALID_FIELD"
    (answer,) = seen.stream(iter([infer("a", tensors=[tensor("x", [8.7654321e30], "FP64")])]))
    assert "element 0 of 'x': 8.76543e+30 is too large" in answer.error_message
    await_true(lambda: len(seen.told("session ended")) == 1)
    check_metrics(seen)
    check_log(seen)


@pytest.mark.parametrize("seen", ["grpc"], indirect=True)
def test_a_sequence_outlives_the_server(seen: Seen) -> None:
    begun = infer("k", 1, start=True, id="s", exactly_once=True)
    seen.infer(begun)
    seen.infer(infer("k", 2))
    last = infer("l", 5, start=True, end=True, id="e", exactly_once=True)
    ended = seen.infer(last)
    seen.server.kill()
    seen.server.launch()
    seen.server.wait_until_serving()
    assert step(seen.infer(infer("k", 3))) == 3
    repeated = seen.infer(begun)
    assert (step(repeated), repeated.parameters["replayed"].bool_param) == (3, True)
    again = seen.infer(last)
    assert again.parameters["replayed"].bool_param
    assert again.raw_output_contents == ended.raw_output_contents


def check_metrics(seen: Seen) -> None:
    assert seen.counts("statecast_requests_total", "kind", "code", "reason") == {
        ("step", "OK", ""): 5,
        ("step", "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"): 2,
        ("step", "INVALID_ARGUMENT", "INVALID_FIELD"): 3,
    }
    handled = seen.counts("grpc_server_handled_total", "grpc_service", "grpc_method", "grpc_type", "grpc_code")
    service = "inference.GRPCInferenceService"
    assert handled == {
        (service, "ModelInfer", "unary", "OK"): 3,
        (service, "ModelInfer", "unary", "RESOURCE_EXHAUSTED"): 1,
        (service, "ModelInfer", "unary", "INVALID_ARGUMENT"): 2,
        (service, "ModelStreamInfer", "bidi_stream", "OK"): 3,
        (service, "ModelStreamInfer", "bidi_stream", "RESOURCE_EXHAUSTED"): 1,
    }


def check_log(seen: Seen) -> None:
    requests = seen.told("request")
    assert {(event["kind"], event["tenant"], event["credential"]) for event in requests} == {
        ("step", "acme", f"key {seen.key_id}")
    }
    assert Counter(event.get("session") for event in requests)["oip/tiny/a"] == 3
    assert not any("request_id" in event for event in requests)
    assert [event["session"] for event in seen.told("session restarted")] == ["oip/tiny/a"]
    assert [event["session"] for event in seen.told("session ended")] == ["oip/tiny/b"]
    errors = [event["error"] for event in seen.told("request failed") if event["reason"] == "INVALID_FIELD"]
    raw, typed = "raw_input_contents[0]: not valid", "inputs[0].contents.fp32_contents[0]: not valid"
    assert errors == [raw, typed, raw]
    assert "8.76543" not in seen.server.log
