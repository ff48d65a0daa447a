"""Targets and timeouts of both clients are checked before anything is sent."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from statecast.client import InvalidArgument
from statecast.client._target import check_target


@pytest.mark.parametrize("target", ["http://localhost:50051", "GRPC://localhost:50051", "localhost:99999", None, 5])
def test_a_target_that_cannot_be_is_refused(make_client: Callable[..., Any], target: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make_client(target)
    assert caught.value.field == "target"


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("localhost", "localhost:50051"),
        ("localhost:", "localhost:50051"),
        ("51100", "localhost:51100"),
        ("", "localhost:50051"),
        ("[::1]", "[::1]:50051"),
        ("[::1]:", "[::1]:50051"),
        ("::1", "[::1]:50051"),
        (":51100", "localhost:51100"),
        ("localhost:abc", "localhost:50051"),
        ("localhost:0", "localhost:50051"),
        ("localhost:-1", "localhost:50051"),
        ("forecasts.example.com:50051/v1", "forecasts.example.com:50051"),
    ],
)
def test_a_target_without_host_or_port_is_refused_with_one_that_would_do(
    make_client: Callable[..., Any], target: str, advice: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(repr(advice))):
        make_client(target)
    assert check_target(advice) == advice


@pytest.mark.parametrize(
    "target",
    ["unix:/run/statecast.sock", "unix:///run/s", "dns:///forecasts:50051", "dns:forecasts", "xds:///forecasts",
     "ipv4:10.0.0.1:50051,10.0.0.2:50051", "ipv6:[::1]:50051", "10.0.0.1:1", "[fe80::1%eth0]:65535"],
)  # fmt: skip
def test_targets_that_grpc_resolves_are_left_to_it(target: str) -> None:
    assert check_target(target) == target


@pytest.mark.parametrize("timeout_seconds", [0, -1, math.nan, math.inf, None, "5", True])
def test_a_timeout_that_cannot_be_is_refused(
    make_client: Callable[..., Any], client: Any, timeout_seconds: Any
) -> None:
    with pytest.raises(InvalidArgument, match="timeout_seconds"):
        make_client("localhost:50051", timeout_seconds=timeout_seconds)
    if timeout_seconds is not None:
        with pytest.raises(InvalidArgument, match="timeout_seconds"):
            client.models(timeout_seconds=timeout_seconds)
