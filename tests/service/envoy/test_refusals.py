"""What Envoy refuses in a configuration is told in a line, with the field and the next step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import WAIT_SECONDS
from support.servers import ServerProcess

pytest.importorskip("pyvoy")

from statecast.service.envoy import launcher
from statecast.service.envoy.refusals import LONGEST, reason_in
from statecast.service.settings import Settings

MANAGER = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"
MISTAKES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "misspelt field": (
        lambda listener, _: listener.update(adress=listener.pop("address")),
        "static_resources.listeners[0]: no such field: 'adress'",
    ),
    "misspelt field inside": (
        lambda _, manager: manager.update(stat_prefixx="a"),
        f"{MANAGER}: no such field: 'stat_prefixx'",
    ),
    "text for a number": (
        lambda listener, _: listener.update(per_connection_buffer_limit_bytes="many"),
        "static_resources.listeners[0].per_connection_buffer_limit_bytes: invalid number: 'many'",
    ),
    "unknown cluster": (
        lambda _, manager: manager["route_config"]["virtual_hosts"][0].update(
            routes=[{"match": {"prefix": "/"}, "route": {"cluster": "nowhere"}}]
        ),
        "route: unknown cluster 'nowhere'",
    ),
    "no address": (
        lambda listener, _: listener.pop("address"),
        "error adding listener named 'grpc': address is necessary",
    ),
    "unknown type": (
        lambda _, manager: manager.update({"@type": "type.googleapis.com/Nothing"}),
        "could not find @type 'type.googleapis.com/Nothing'",
    ),
    "number out of range": (
        lambda _, manager: manager.update(max_request_headers_kb=100_000),
        "HttpConnectionManagerValidationError.MaxRequestHeadersKb: value must be inside range (0, 8192]",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_refusal_is_one_line_with_the_field(tmp_path: Path, mistake: str) -> None:
    make, why = MISTAKES[mistake]
    own, config = tmp_path / "envoy.json", launcher.own_configuration(Settings(port=0), Path("admin.sock"))
    (listener,) = config["static_resources"]["listeners"]
    make(listener, listener["filter_chains"][0]["filters"][0]["typed_config"])
    own.write_text(json.dumps(config))
    server = ServerProcess("--transport", "envoy", "--envoy-config", str(own))
    assert server.process.wait(WAIT_SECONDS) == 1
    next_step = "correct that, or compare the file with --print-envoy-config"
    assert server.log == f"Error: envoy-config {own}: Envoy refuses it: {why}; {next_step}\n"


def test_other_words_are_cut() -> None:
    assert reason_in("error `" + "x y" * 1000 + "` initializing config '{}'") == ("x y" * 1000)[:LONGEST]
    assert reason_in("error `x`") is None
    assert reason_in("starting main dispatch loop") is None
