"""What the client does when calls are lost, refused or late: a real server behind a proxy that misbehaves."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import short_folder
from support.proxy import Fault, Proxy, cut_off, drop, honest, lose, reset, stall, too_large, turn_away
from support.servers import ServerProcess, ServerThread

from statecast.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    NotFound,
    ResourceExhausted,
    ServerError,
    SomeFailed,
    StatecastError,
    Unavailable,
    VersionMismatch,
)

MakeClient = Callable[..., Any]


@pytest.fixture
def shaky(make_client: MakeClient, proxy: Proxy) -> Any:
    """A client behind the proxy."""
    return make_client(proxy.target)


@pytest.fixture
def rivals(server: ServerThread) -> Iterator[Client]:
    """A client of somebody else, who reaches the server directly."""
    with Client(server.target) as client:
        yield client


@pytest.mark.parametrize(
    "faults",
    [[lose], [drop], [cut_off], [reset], [turn_away], [lose, drop, lose, turn_away, cut_off]],
    ids=lambda faults: "-".join(fault.__name__ for fault in faults),
)
def test_a_request_is_repeated_until_it_is_known_to_be_taken_once(
    shaky: Any, proxy: Proxy, session_id: str, faults: list[Fault]
) -> None:
    session = shaky.session(session_id, "tiny")
    proxy.faults.extend(faults)
    receipt = session.observe([1.0, 2.0])
    assert receipt.version.step == 2
    assert receipt.replayed == any(fault in (lose, cut_off, reset) for fault in faults)
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


def garble(context: Any, forward: Callable[[], bytes]) -> bytes:
    """Forward the call, but answer with what is no message."""
    return b"\xff" + forward()


def test_an_answer_that_cannot_be_read_may_be_asked_for_again(shaky: Any, proxy: Proxy, session_id: str) -> None:
    session = shaky.session(session_id, "tiny")
    proxy.faults.append(garble)
    with pytest.raises(ServerError, match="cannot be read") as caught:
        session.observe([1.0, 2.0])
    assert caught.value.outcome_unknown
    assert session.observe([1.0, 2.0], request_id=caught.value.request_id).replayed
    proxy.faults.append(garble)
    with pytest.raises(SomeFailed) as failed:
        shaky.observe_many([(session, 3.0)])
    proxy.faults.append(garble)
    ((_, streamed),) = shaky.stream([(session, 4.0)])
    proxy.faults.append(garble)
    with pytest.raises(ServerError):
        session.info()
    for error in (failed.value.results[0], streamed):
        assert isinstance(error, ServerError)
        assert error.outcome_unknown
    assert session.info().version.step == 4


async def test_requests_made_together_push_no_request_id_out(proxy: Proxy, session_id: str) -> None:
    async with AsyncClient(proxy.target) as client:
        session, same = client.session(session_id, "tiny"), client.session(session_id, "tiny")
        proxy.faults.extend([lose, honest] * 40)
        receipts = await asyncio.gather(*((session, same)[at % 2].observe(float(at)) for at in range(40)))
        assert [receipt.version.step for receipt in receipts] == list(range(1, 41))
        assert sum(receipt.replayed for receipt in receipts) >= 15  # the other answers that are lost are those of looks


def test_an_empty_request_id_is_a_new_one(shaky: Any, proxy: Proxy, session_id: str) -> None:
    proxy.faults.append(lose)
    receipt = shaky.session(session_id, "tiny").observe([1.0, 2.0], request_id="")
    assert receipt.replayed
    assert receipt.version.step == 2


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
    assert receipt.version.step == 2
    assert session.info().version.step == 2


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

    proxy.faults.extend([honest, too_large])
    with pytest.raises(ResourceExhausted) as caught:
        session.observe(range(20_000))
    assert caught.value.values_taken == 7560
    assert session.info().version.step == 7560


def test_what_was_not_sent_has_an_error_of_its_own(shaky: Any, proxy: Proxy, session_id: str) -> None:
    session = shaky.session(session_id, "tiny")

    proxy.faults.extend([honest, too_large])
    with pytest.raises(SomeFailed) as caught:
        shaky.observe_many([(session, np.ones(10_000)), (session, np.ones(1808))])
    first, second = caught.value.results
    assert isinstance(first, StatecastError)
    assert isinstance(second, StatecastError)
    assert (first.values_taken, second.values_taken) == (7560, 0)
    session.observe(np.ones(10_000 - 7560), request_id=first.request_id)
    assert session.observe(np.ones(1808), request_id=second.request_id).version.step == 11_808


def then(fault: Callable[[], object]) -> Fault:
    """The server does its work, something else happens, and the answer is lost."""

    def lose_after(context: Any, forward: Callable[[], bytes]) -> bytes:
        forward()
        fault()
        raise context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")

    return lose_after


def test_a_rival_between_two_parts_is_noticed(rivals: Client, shaky: Any, proxy: Proxy, session_id: str) -> None:
    session, rival = shaky.session(session_id, "tiny"), rivals.session(session_id, "tiny")
    start = session.observe(0.0).version
    proxy.faults.append(then(lambda: rival.observe(5.0)))
    with pytest.raises(VersionMismatch) as caught:
        session.observe(np.ones(10_000), if_version=start)
    assert caught.value.values_taken == 7560
    assert caught.value.current == session.info().version
    proxy.faults.append(lose)
    assert session.observe(np.ones(10_000), if_version=session.version).version.step == 17_562


def test_a_rival_after_the_last_part_is_none_of_our_business(
    rivals: Client, shaky: Any, proxy: Proxy, session_id: str
) -> None:
    session, rival = shaky.session(session_id, "tiny"), rivals.session(session_id, "tiny")
    start = session.observe(0.0).version
    proxy.faults.append(then(lambda: rival.observe(5.0)))
    assert session.observe(1.0, if_version=start).replayed


def test_a_repeated_close_spares_the_next_session_of_that_name(
    rivals: Client, shaky: Any, proxy: Proxy, session_id: str
) -> None:
    shaky.session(session_id, "tiny").observe(1.0)

    reopened = then(lambda: rivals.session(session_id, "tiny").observe([7.0, 8.0]))
    proxy.faults.extend([honest, reopened])  # the look before the close, and the close
    with pytest.raises(VersionMismatch):
        shaky.session(session_id).close()
    assert rivals.session(session_id, resume_only=True).info().version.step == 2


def test_closing_what_never_was_is_not_found_even_if_turned_away_first(
    shaky: Any, proxy: Proxy, session_id: str
) -> None:
    proxy.faults.append(turn_away)
    with pytest.raises(NotFound):
        shaky.session(session_id, "tiny").close()


def test_every_frame_has_time_of_its_own(shaky: Any, proxy: Proxy, session_id: str) -> None:
    def slow(context: Any, forward: Callable[[], bytes]) -> bytes:
        time.sleep(1.0)
        return forward()

    proxy.faults.extend([slow] * 4)
    sessions = [shaky.session(f"{session_id}-{number}", "tiny") for number in range(512 * 4)]
    assert len(shaky.observe_many([(session, 1.0) for session in sessions], timeout_seconds=3)) == 2048


def test_a_session_whose_close_was_lost_counts_as_closed(shaky: Any, proxy: Proxy, session_id: str) -> None:
    session = shaky.session(session_id, "tiny")
    session.observe(1.0)
    proxy.faults.extend([lose, lose])  # the look before the close, and the close
    session.close()
    with pytest.raises(NotFound):
        session.close()


def test_nobody_there_is_unavailable(make_client: MakeClient) -> None:
    client = make_client("127.0.0.1:1", timeout_seconds=0.5)
    with pytest.raises(Unavailable):
        client.models()


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
