"""A place where no server can listen is refused with its cause and what to do."""

import socket

import pytest

from statecast.service.errors import StartupError
from statecast.service.transport.place import Place, cannot_listen, check_free, resolve


@pytest.mark.parametrize(
    ("host", "text"), [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7"), ("localhost", "localhost:7"), ("", ":7")]
)
def test_it_is_written_as_grpc_writes_it(host: str, text: str) -> None:
    assert str(Place(host, 7)) == text


def test_a_name_is_resolved() -> None:
    family, where = resolve(Place("localhost", 7))
    assert family in (socket.AF_INET, socket.AF_INET6)
    assert where[:2] in (("127.0.0.1", 7), ("::1", 7))


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("no such host", "host 'no such host' is not an address"),
        ("[::1]", "leave out the brackets: ::1"),
    ],
)
def test_what_is_no_address_is_refused(host: str, says: str) -> None:
    with pytest.raises(StartupError, match=says):
        check_free(Place(host, 0))


def test_a_port_in_use_is_refused_until_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Place("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartupError, match=f"cannot listen on {place}: another process listens there; stop it"):
            check_free(place)
        assert "another process listens there" in str(cannot_listen(place))
    check_free(place)
    assert "another process listens there" in str(cannot_listen(place))  # it was in use a moment ago


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartupError, match=r"192\.0\.2\.1 is not an address of this machine; set --host"):
        check_free(Place("192.0.2.1", 0))
