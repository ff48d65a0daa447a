"""Which replica a session belongs to, and which addresses a target stands for: nothing here connects."""

import hashlib
import re
import socket
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.client._affinity import Ring, rank, session_header, session_of
from statecast.client._connection import Connection
from statecast.client._replicas import Part, merge
from statecast.client._request import Frame, Request
from statecast.client._target import Name, check_target, families, listed_addresses, name_in
from statecast.client.errors import InvalidArgument, Unavailable
from statecast.v1 import forecast_service_pb2 as pb

ADDRESSES = st.sets(st.integers(1, 254).map("ipv4:10.0.0.{}:50051".format), min_size=2, max_size=12)
SESSIONS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(ADDRESSES, SESSIONS, st.data())
def test_if_an_address_goes_only_its_own_sessions_move(addresses: set[str], session: str, data: st.DataObject) -> None:
    order = rank(session, addresses)
    gone = data.draw(st.sampled_from(sorted(addresses)))
    assert rank(session, addresses - {gone}) == [each for each in order if each != gone]


@given(ADDRESSES, SESSIONS)
def test_the_order_of_the_addresses_does_not_count(addresses: set[str], session: str) -> None:
    assert rank(session, sorted(addresses)) == rank(session, sorted(addresses, reverse=True))


def test_every_process_comes_to_the_same_order() -> None:
    ask = "from statecast.client._affinity import rank; print(rank('pump 17 \\u00e9', 'abc'))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(rank("pump 17 é", "abc")) == "['c', 'b', 'a']"


def test_each_of_many_addresses_gets_its_share() -> None:
    addresses = [f"ipv4:10.0.0.{number}:50051" for number in range(5)]
    firsts = [rank(f"session-{number}", addresses)[0] for number in range(5000)]
    assert all(900 < firsts.count(address) < 1100 for address in addresses)


def test_a_ring_has_the_first_two_replicas_of_a_session() -> None:
    ring = Ring({"a": 1, "b": 2, "c": 3})
    assert list(ring.ranked("s")) == [ring.by_address[each] for each in rank("s", "abc")[:2]]


@given(SESSIONS)
def test_the_header_is_of_ascii_and_of_one_length(session: str) -> None:
    ((name, value),) = session_header(session)
    assert name == "x-statecast-session"
    assert value == hashlib.sha256(session.encode()).hexdigest()[:16]


def test_messages_say_by_which_session_to_choose() -> None:
    frame = Frame([b"", b""], ["a", "b"])
    assert session_of(frame) == "a"
    assert session_of(frame.part([1])) == "b"
    assert session_of(Frame([])) == session_of(pb.ListSessionsRequest()) == ""
    assert session_of(Request("s")) == session_of(pb.GetSessionRequest(session_id="s")) == "s"
    assert session_of(pb.ForkSessionRequest(source_session_id="s", session_id="copy")) == "s"
    assert session_header("") == ()


def test_the_results_of_parts_come_in_the_order_of_the_frame() -> None:
    frame = Frame([b"0", b"1", b"2", b"3"], list("abcd"))
    parts = [Part[Any](number, frame.part(at), at) for number, at in enumerate(([3, 0], [1, 2]))]
    lost = Unavailable("gone")
    results: list[Any] = merge(parts, [[(b"d", 3), (b"a", 0)], lost])
    assert [results[0], results[3]] == [(b"a", 0), (b"d", 3)]
    (_, first), (_, second) = results[1:3]
    assert type(first) is type(second) is Unavailable
    assert first is not second  # each request notes its own id in its error
    with pytest.raises(ValueError, match="shorter"):
        merge(parts, [[(b"d", 3)], lost])
    with pytest.raises(KeyboardInterrupt):
        merge(parts, [lost, KeyboardInterrupt()])


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("ipv4:10.0.0.7:1,10.0.0.8:1", ["ipv4:10.0.0.7:1", "ipv4:10.0.0.8:1"]),
        ("ipv4:///10.0.0.7:1,10.0.0.8:1", ["ipv4:10.0.0.7:1", "ipv4:10.0.0.8:1"]),
        ("ipv4:10.0.0.7:1,10.0.0.7:1", ["ipv4:10.0.0.7:1"]),
        ("ipv6:[::1]:1,[::2]:1", ["ipv6:[::1]:1", "ipv6:[::2]:1"]),
        ("ipv4:10.0.0.7:1", ["ipv4:10.0.0.7:1"]),
        ("10.0.0.7:1", []),
        ("dns:///forecasts:1", []),
        ("unix:/run/a,b", []),
    ],
)
def test_a_target_may_list_addresses(target: str, addresses: list[str]) -> None:
    assert listed_addresses(target) == addresses


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("ipv4:10.0.0.7,10.0.0.8:1", "10.0.0.7"),
        ("ipv4:10.0.0.7:1, 10.0.0.8:1", " 10.0.0.8:1"),
        ("ipv4:10.0.0.7:1,forecasts:1", "forecasts:1"),
        ("ipv4:10.0.0.777:1", "10.0.0.777:1"),
        ("ipv6:10.0.0.7:1,[::1]:1", "10.0.0.7:1"),
        ("ipv6:::1", "::1"),
    ],
)
def test_a_list_with_something_else_is_refused_by_its_name(target: str, host: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(f"target: {target!r}: {host!r} is no ipv")) as caught:
        check_target(target)
    assert caught.value.field == "target"


@pytest.mark.parametrize("target", ["ipv4:127.0.0.1:1,", "ipv6:[::1]:1,[fe80::1%25eth0]:1", "ipv6:%5B::1%5D:1"])
def test_what_grpc_takes_is_taken(target: str) -> None:
    assert check_target(target) == target


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("forecasts:50051", Name("forecasts:50051", "forecasts", 50051)),
        ("dns:forecasts:50051", Name("forecasts:50051", "forecasts", 50051)),
        ("dns:///forecasts.svc:50051", Name("forecasts.svc:50051", "forecasts.svc", 50051)),
        ("dns:///forecasts", Name("forecasts", "forecasts", 443)),
        *((other, None) for other in (
            "127.0.0.1:50051", "[::1]:50051", "dns:///127.0.0.1:1", "dns:///[::1]:1", "dns://10.0.0.53/forecasts:1",
            "unix:forecasts", "unix:/run/s.sock", "vsock:2:443", "vsock:2", "xds:///forecasts", "passthrough:///forecasts:1",
            "ipv4:10.0.0.7:1", "ipv6:[::1]:1", "[::1%25eth0]:443", "DNS:///forecasts:1", "dns:///forecasts:1?x",
        )),
    ],
)  # fmt: skip
def test_a_target_may_be_a_name_to_look_up(target: str, name: Name | None) -> None:
    assert name_in(target) == name


def found(*addresses: str) -> list[tuple[Any, ...]]:
    """Return what getaddrinfo returns for these addresses."""
    return [
        (socket.AF_INET6, 1, 6, "", (each, 1, 0, 0)) if ":" in each else (socket.AF_INET, 1, 6, "", (each, 1))
        for each in addresses
    ]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([], []),
        (["10.0.0.2", "10.0.0.1", "10.0.0.2"], [["ipv4:10.0.0.1:1", "ipv4:10.0.0.2:1"]]),
        (["::1", "127.0.0.1"], [["ipv6:[::1]:1"], ["ipv4:127.0.0.1:1"]]),  # one machine
        (["fe80::1%eth0", "10.0.0.1", "10.0.0.2"], [["ipv4:10.0.0.1:1", "ipv4:10.0.0.2:1"]]),
        (["fe80::1%eth0", "::2"], [["ipv6:[::2]:1", "ipv6:[fe80::1%25eth0]:1"]]),
        (["::1", "::2", "10.0.0.1", "10.0.0.2"],
         [["ipv6:[::1]:1", "ipv6:[::2]:1"], ["ipv4:10.0.0.1:1", "ipv4:10.0.0.2:1"]]),
    ],
)  # fmt: skip
def test_the_addresses_of_the_two_families_are_alternatives(addresses: list[str], expected: list[list[str]]) -> None:
    assert families(found(*addresses)) == expected


def test_the_channel_to_an_address_keeps_the_name_and_takes_no_proxy() -> None:
    connection = Connection("dns:///forecasts:1", None, ())
    made = connection.at("ipv4:10.0.0.7:1", Name("forecasts:1", "forecasts", 1))
    assert made.target == "ipv4:10.0.0.7:1"
    assert dict(made.options) == {"grpc.enable_http_proxy": 0, "grpc.default_authority": "forecasts:1"}
    named = Connection("dns:///f:1", None, (("grpc.ssl_target_name_override", "other"),))
    assert "grpc.default_authority" not in dict(named.at("ipv4:10.0.0.7:1", Name("f:1", "f", 1)).options)
    assert dict(connection.at("ipv4:10.0.0.7:1", None).options) == {}


def test_a_name_that_is_reached_through_a_proxy_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    connection = Connection("forecasts.svc:1", None, ())
    assert not connection.uses_proxy("forecasts.svc")
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    assert connection.uses_proxy("forecasts.svc")
    assert not Connection("forecasts.svc:1", None, (("grpc.enable_http_proxy", 0),)).uses_proxy("forecasts.svc")
    monkeypatch.setenv("no_proxy", "localhost, .svc")
    assert not connection.uses_proxy("forecasts.svc")
    assert connection.uses_proxy("forecasts.example")
