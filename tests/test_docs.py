"""Run the examples in the README and docs/."""

import dataclasses
import re
import shlex
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from support.servers import ServerThread
from torture.faults import FAULTS

from statecast.service.settings import Settings
from statecast.v1 import admin_service_pb2, forecast_service_pb2, model_service_pb2

ROOT = Path(__file__).parents[1]
OWN_TEST = {"own-models.md", "triton.md"}
"""Pages whose Python needs a server of its own; test_own_models_page.py and proto/test_triton.py run it."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SERVICES: dict[str, Any] = {
    service.full_name: service
    for module in (admin_service_pb2, forecast_service_pb2, model_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and page.name not in OWN_TEST], ids=lambda page: page.name
)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, server: ServerThread) -> None:
    code = "\n".join(blocks(page, "python")).replace("localhost:50051", server.target)
    exec(compile(code, page.name, "exec"), {})


def test_the_grpcurl_lines_are_calls(server: ServerThread) -> None:
    console = "\n".join(blocks(ROOT / "docs" / "tutorial.md", "console")).replace("\\\n", "")
    lines = [shlex.split(line[1:]) for line in console.splitlines() if "grpcurl" in line]
    assert len(lines) >= 3
    with grpc.insecure_channel(server.target) as channel:
        for words in lines:
            service, method = words[-1].split("/")
            described = SERVICES[service].methods_by_name[method]
            body = words[words.index("-d") + 1] if "-d" in words else "{}"
            request = json_format.Parse(body, GetMessageClass(described.input_type)())
            call: Any = channel.unary_unary(f"/{words[-1]}", type(request).SerializeToString)
            assert call(request)


def test_every_setting_stands_in_the_table() -> None:
    rows = (ROOT / "docs" / "operations.md").read_text().splitlines()
    for setting in dataclasses.fields(Settings):
        default = "no" if setting.default is False else f"`{setting.default}`"
        default = "" if setting.default in (None, "") else default
        text = setting.metadata["help"].split("  [default")[0]
        assert f"| `--{setting.name.replace('_', '-')}` | {default} | {text} |" in rows


def test_every_metric_that_is_named_is_there(server: ServerThread) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
        exposed = response.read().decode()
    for name in set(re.findall(r"\b(?:grpc_server|statecast)_[a-z_]+", page)):
        assert f"# TYPE {name.removesuffix('_bucket')} " in exposed, name


def test_every_test_that_a_promise_names_is_there() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    tests = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", page)
    assert len(named) > 10
    for file, name in named:
        assert f"def {name}" in tests[file], (file, name)
    faults = {fault.name for fault in FAULTS}
    shown = [
        name for line in re.findall(r"torture ((?:`[a-z-]+`[,\s]*)+)", page) for name in re.findall(r"`(.+?)`", line)
    ]
    assert len(shown) > 8
    assert set(shown) <= faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link
