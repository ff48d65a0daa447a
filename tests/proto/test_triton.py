"""Programs for Triton, unchanged, in processes of their own: their library defines the same messages."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support.engines import assert_close
from support.models import imported_folder
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from torch import nn

from statecast.oip import inference_service_pb2

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "triton" / "program.py"
PAGE = ROOT / "docs" / "triton.md"
VALUES = (1.0, -2.0, 3.5, 0.25)
"""Those of the program."""
DESCRIBE = """
import json
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tritonclient.grpc import model_config_pb2, service_pb2

def copy(module):
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file.SerializeToString().hex()

print(json.dumps([copy(module) for module in (service_pb2, model_config_pb2)]))
"""


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module", params=["grpc", "envoy"])
def target(
    request: pytest.FixtureRequest, any_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("triton")
    imported_folder(folder / "models", "pump", stateful=True)
    names = folder / "tensors.toml"
    names.write_text(blocks("toml") + '[pump]\nINPUT = "values"\nOUTPUT = "forecast"\n')
    served = ("--models", str(folder / "models"), "--tensor-names", str(names), "--namespace", f"oip-{request.param}")
    server = ServerProcess("--transport", request.param, "--redis-url", any_redis.url, *served)
    yield server.target
    server.stop()


def run(*arguments: str) -> str:
    environment = {**os.environ, "GRPC_VERBOSITY": "ERROR"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=100, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def own_loop(sequence: int) -> list[list[float]]:
    """Return what the model's owner computes for a sequence of the program."""
    torch.manual_seed(0)
    head = nn.Linear(8, 3)
    gru, state, outputs = nn.GRU(1, 8, 2, batch_first=True), None, []
    with torch.inference_mode():
        for value in VALUES:
            hidden, state = gru(torch.tensor([[[(value + sequence % 10 - 20.0) / 4.0]]]), state)
            outputs.append((head(hidden[0, -1]) * 4.0 + 20.0).tolist())
    return outputs


def test_a_program_for_a_stateful_model_runs_unchanged(target: str) -> None:
    found = json.loads(run(str(PROGRAM), target, "pump"))
    turns = [step for both in zip(own_loop(101), own_loop(102), strict=True) for step in both]
    numbers: dict[str, Sequence[Any]] = {
        "one after the other": turns,
        "with callbacks": own_loop(103),
        "on a stream": own_loop(104),
        "with asyncio": [*own_loop(105), *own_loop(106)],
    }
    for name, outputs in numbers.items():
        assert_close(found.pop(name), outputs)
    invalid = "StatusCode.INVALID_ARGUMENT"
    # Triton itself (2.51, Python backend, the same GRU) says exactly this, and gives the numbers above.
    assert found == {
        "serves": [True, True, True],
        "no such model": False,
        "inputs": [["INPUT", "FP32"]],
        "has OUTPUT": True,
        "keeps sequences": True,
        "after its end": invalid,
        "without a start": invalid,
        "without a sequence": invalid,
        "with an empty one": invalid,
        "of another model": "StatusCode.NOT_FOUND",
        "of another output": invalid,
        "without a start on a stream": "START flag",
    }


def test_the_page_runs_beside_our_own_client(target: str) -> None:
    code = blocks("python").replace("localhost:50051", target)
    code += f"""
from statecast.client import Client
with Client({target!r}) as own:
    assert own.session("oip/base/pump 4").info().version.step == 2
"""
    assert "(1, 64, 13, 1)" in run("-c", code)


def field_of(field: Any) -> tuple[Any, ...]:
    return field.name, field.number, field.type, field.label, field.type_name


def test_our_messages_are_those_of_the_public_standard() -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    theirs: dict[str, set[Any]] = {}
    ours: dict[str, set[Any]] = {}

    def collect(into: dict[str, set[Any]], prefix: str, messages: Any) -> None:
        for message in messages:
            into[f"{prefix}.{message.name}"] = {field_of(field) for field in message.field}
            collect(into, f"{prefix}.{message.name}", message.nested_type)

    methods: list[dict[str, tuple[str, str, bool, bool]]] = []
    enums: list[dict[str, int]] = []
    own = FileDescriptorProto()
    inference_service_pb2.DESCRIPTOR.CopyToProto(own)
    files = [FileDescriptorProto.FromString(bytes.fromhex(each)) for each in json.loads(run("-c", DESCRIBE))]
    for into, several in ((theirs, files), (ours, [own])):
        for file in several:
            assert file.package == "inference"
            collect(into, "inference", file.message_type)
        (service,) = (service for file in several for service in file.service)
        assert service.name == "GRPCInferenceService"
        methods.append({
            each.name: (each.input_type, each.output_type, each.client_streaming, each.server_streaming)
            for each in service.method
        })  # fmt: skip
        (kinds,) = (enum for file in several for enum in file.enum_type if enum.name == "DataType")
        enums.append({each.name: each.number for each in kinds.value})
    assert set(methods[0]) == set(methods[1])
    for name, method in methods[1].items():
        if not method[0].endswith("UnsupportedRequest"):
            assert method == methods[0][name]
    for name, fields in ours.items():
        if "Unsupported" not in name:
            assert fields <= theirs[name], name
    assert enums[1].items() <= enums[0].items()
