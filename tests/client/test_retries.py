"""What the client does when calls are lost, refused or late: a real server behind a proxy that misbehaves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import short_folder
from support.proxy import Fault, Proxy, cut_off, drop, lose, stall, too_large, turn_away
from support.servers import ServerProcess, ServerThread

from statecast.client import DeadlineExceeded, NotFound, ResourceExhausted, SomeFailed, Unavailable

MakeClient = Callable[..., Any]


@pytest.fixture
def shaky(make_client: MakeClient, proxy: Proxy) -> Any:
    """A client behind the proxy."""
    return make_client(proxy.target)


@pytest.mark.parametrize(
    "faults",
    [[lose], [drop], [cut_off], [turn_away], [lose, drop, lose, turn_away, cut_off]],
    ids=lambda faults: "-".join(fault.__name__ for fault in faults),
)
def test_a_request_is_repeated_until_it_is_known_to_be_taken_once(
    shaky: Any, proxy: Proxy, session_id: str, faults: list[Fault]
) -> None:
    session = shaky.session(session_id, "tiny")
    proxy.faults.extend(faults)
    receipt = session.observe([1.0, 2.0])
    assert receipt.version.step == 2
    assert receipt.replayed == any(fault in (lose, cut_off) for fault in faults)
    assert proxy.calls == len(faults) + 1
    assert session.observe(3.0).version.step == 3


def test_every_part_of_a_long_history_is_taken_once(shaky: Any, proxy: Proxy, session_id: str) -> None:
    proxy.faults.extend([lose, lose, drop, lose])
    session = shaky.session(session_id, "tiny")
    assert session.observe(range(20_000)).version.step == 20_000


def test_every_session_of_a_lost_frame_is_taken_once(shaky: Any, proxy: Proxy, session_id: str) -> None:
    proxy.faults.extend([lose, cut_off, turn_away])
    sessions = [shaky.session(f"{session_id}-{number}", "tiny") for number in range(5)]
    receipts = shaky.observe_many([(session, range(10_000)) for session in sessions])
    assert [receipt.version.step for receipt in receipts] == [10_000] * 5


def test_it_waits_as_long_as_the_server_asks(shaky: Any, proxy: Proxy, session_id: str) -> None:
    proxy.faults.append(turn_away)
    started = time.monotonic()
    shaky.session(session_id, "tiny").observe(1.0)
    assert time.monotonic() - started >= 0.2


def test_what_can_never_fit_is_not_repeated(shaky: Any, proxy: Proxy, session_id: str) -> None:
    proxy.faults.append(too_large)
    with pytest.raises(ResourceExhausted, match="larger than max"):
        shaky.session(session_id, "tiny").observe(1.0)
    assert proxy.calls == 1


def test_after_a_deadline_the_request_id_finds_out(shaky: Any, proxy: Proxy, session_id: str) -> None:
    session = shaky.session(session_id, "tiny")
    proxy.faults.append(stall)
    with pytest.raises(DeadlineExceeded) as caught:
        session.observe([1.0, 2.0], timeout_seconds=0.3)
    receipt = session.observe([1.0, 2.0], request_id=caught.value.request_id)
    assert receipt.replayed
    assert receipt.version.step == 2


def test_when_time_is_up_the_last_error_is_raised(shaky: Any, proxy: Proxy, session_id: str) -> None:
    proxy.faults.extend([drop] * 1000)
    session = shaky.session(session_id, "tiny")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="no route") as caught:
        session.observe(1.0, timeout_seconds=0.5)
    assert time.monotonic() - started < 2
    assert caught.value.request_id
    with pytest.raises(SomeFailed) as some:
        shaky.observe_many([(session, range(9000)), (session, 1.0)], timeout_seconds=0.5)
    assert [type(result) for result in some.value.results] == [Unavailable, Unavailable]
    assert proxy.calls < 50


def test_a_failure_half_way_tells_how_much_was_taken(shaky: Any, proxy: Proxy, session_id: str) -> None:
    session = shaky.session(session_id, "tiny")

    def then_too_large(context: Any, forward: Callable[[], bytes]) -> bytes:
        proxy.faults.append(too_large)
        return forward()

    proxy.faults.append(then_too_large)
    with pytest.raises(ResourceExhausted) as caught:
        session.observe(range(20_000))
    assert caught.value.values_taken == 7560
    assert session.info().version.step == 7560


def test_a_session_whose_close_was_lost_counts_as_closed(shaky: Any, proxy: Proxy, session_id: str) -> None:
    session = shaky.session(session_id, "tiny")
    session.observe(1.0)
    proxy.faults.append(lose)
    session.close()
    with pytest.raises(NotFound):
        session.close()


def test_nobody_there_is_unavailable(make_client: MakeClient) -> None:
    client = make_client("127.0.0.1:1", timeout_seconds=0.5)
    with pytest.raises(Unavailable):
        client.models()


@pytest.mark.parametrize("timeout_seconds", [0, -1, float("nan")])
def test_a_timeout_must_be_one(client: Any, timeout_seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout_seconds"):
        client.models(timeout_seconds=timeout_seconds)


def test_a_client_outlives_its_server(make_client: MakeClient, models_folder: Path, session_id: str) -> None:
    with short_folder() as folder:
        arguments = ("--data-dir", str(folder), "--models", str(models_folder))
        server = ServerProcess(*arguments)
        client = make_client(server.target, timeout_seconds=30)
        session = client.session(session_id, "tiny")
        before = session.step([1.0, 2.0], 3)
        port = server.port
        server.kill()
        server = ServerProcess(*arguments, port=port)
        after = session.forecast(3)
        assert after.version == before.version
        assert server.stop() == 0


def test_the_proxy_itself_changes_nothing(shaky: Any, server: ServerThread, session_id: str) -> None:
    assert shaky.session(session_id, "tiny").step(1.0, 2).version.step == 1
