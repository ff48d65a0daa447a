"""Lost observations that are sent again: under their own ids, and only where they belong."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.proxy import Proxy, drop, honest, lose, stall, turn_away
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread

from statecast.client import (
    Client,
    DeadlineExceeded,
    NotFound,
    RequestOutdated,
    ResourceExhausted,
    SessionRegressed,
)


@pytest.fixture
def rivals(server: ServerThread) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


class Record:
    """A session's record in Redis, which may be put back to an older copy."""

    def __init__(self, redis: RedisProcess, session_id: str) -> None:
        self._client, self._key = redis.client, f"shared:default:{session_id}"

    def read(self) -> bytes:
        value = self._client.get(self._key)
        assert isinstance(value, bytes)
        return value

    def put_back(self, value: bytes) -> None:
        self._client.set(self._key, value, keepttl=True)

    def delete(self) -> None:
        self._client.delete(self._key)


@pytest.fixture
def record(any_redis: RedisProcess, session_id: str) -> Record:
    return Record(any_redis, session_id)


def test_what_is_sent_again_keeps_its_request_id(client: Any, record: Record, session_id: str) -> None:
    session = client.session(session_id, "tiny")
    session.observe(1.0)
    older = record.read()
    session.observe(2.0, request_id="mine")
    record.put_back(older)
    assert session.observe(3.0).version.step == 3
    again = session.observe(2.0, request_id="mine")
    assert again.replayed
    assert again.version.step == 3


def test_nothing_is_sent_again_behind_what_a_rival_appended_meanwhile(
    make_client: Any,
    rivals: Client,
    proxy: Proxy,
    record: Record,
    session_id: str,
) -> None:
    def after_a_rival(context: Any, forward: Callable[[], bytes]) -> bytes:
        rivals.session(session_id).observe(9.0)
        return forward()

    session = make_client(proxy.target).session(session_id, "tiny")
    session.observe(1.0)
    older = record.read()
    session.observe(2.0)
    record.put_back(older)
    proxy.faults.extend([honest, after_a_rival])  # the request that is told of the loss, and the first one sent again
    with pytest.raises(SessionRegressed, match="nothing more was sent again"):
        session.observe(3.0)
    assert rivals.session(session_id).info().version.step == 2


def test_what_is_lost_again_while_it_is_sent_again_is_sent_again_too(
    make_client: Any, proxy: Proxy, record: Record, session_id: str
) -> None:
    def after_another_loss(context: Any, forward: Callable[[], bytes]) -> bytes:
        record.put_back(older)
        return forward()

    session = make_client(proxy.target).session(session_id, "tiny")
    session.observe(1.0)
    older = record.read()
    for value in (2.0, 3.0, 4.0):
        session.observe(value)
    record.put_back(older)
    # Told of the loss, the first one sent again, the second one, the last one: lost at each of them once more.
    proxy.faults.extend([honest, honest, after_another_loss, honest, honest, honest, after_another_loss])
    last = session.observe(5.0).version
    assert last == make_client(proxy.target).session(session_id + "-whole", "tiny").observe([1, 2, 3, 4, 5]).version


def test_after_much_that_others_appended_a_new_request_is_still_taken(
    client: Any, rivals: Client, session_id: str
) -> None:
    session, rival = client.session(session_id, "tiny"), rivals.session(session_id, "tiny")
    session.observe(0.0)
    for value in range(20):
        rival.observe(float(value))
    assert session.observe(1.0).version.step == 22
    for value in range(20):
        rival.observe(float(value))
    (receipt,) = client.observe_many([(session, 2.0)])
    assert receipt.version.step == 43
    assert client.session(session_id).observe(3.0).version.step == 44  # by an object that has seen nothing yet


def test_after_much_that_others_appended_nobody_knows_whether_it_was_taken(
    make_client: Any, rivals: Client, proxy: Proxy, session_id: str
) -> None:
    session, rival = make_client(proxy.target).session(session_id, "tiny"), rivals.session(session_id, "tiny")
    session.observe(0.0)

    def lose_for_long(context: Any, forward: Callable[[], bytes]) -> bytes:
        forward()
        for value in range(20):
            rival.observe(float(value))
        return lose(context, lambda: b"")

    proxy.faults.append(lose_for_long)
    with pytest.raises(RequestOutdated) as caught:
        session.observe(1.0)
    assert caught.value.outcome_unknown
    assert caught.value.current == rival.version
    with pytest.raises(RequestOutdated):
        session.observe(1.0, request_id=caught.value.request_id)
    assert rival.info().version.step == 22
    session.observe(1.0, request_id="a new one, by somebody who has looked")


def test_what_was_turned_away_after_a_lost_answer_may_have_been_appended(
    make_client: Any, proxy: Proxy, session_id: str
) -> None:
    session = make_client(proxy.target).session(session_id, "tiny")
    proxy.faults.extend([lose, *[turn_away] * 100])
    with pytest.raises(ResourceExhausted) as caught:
        session.observe(1.0, timeout_seconds=3.0)
    assert caught.value.outcome_unknown
    proxy.faults.clear()
    assert session.observe(1.0, request_id=caught.value.request_id).replayed


def test_a_session_that_others_write_to_is_looked_at_first(
    make_client: Any, rivals: Client, proxy: Proxy, session_id: str
) -> None:
    session, rival = make_client(proxy.target).session(session_id, "tiny"), rivals.session(session_id, "tiny")
    session.observe(0.0)

    def others_write() -> None:
        for value in range(20):
            rival.observe(float(value))

    others_write()
    session.observe(1.0)
    others_write()
    # Without the look, the lost request could not be told from one that the session has forgotten.
    proxy.faults.extend([honest, drop])
    receipt = session.observe(2.0)
    assert (receipt.version.step, receipt.replayed) == (43, False)
    others_write()
    session.observe(3.0)
    before = proxy.calls
    for value in range(3):
        session.observe(float(value))
    assert proxy.calls - before == 4  # once nobody else is seen, a look is spared


def test_a_session_that_expired_or_was_closed_long_ago_is_not_made_again(
    client: Any, rivals: Client, session_id: str
) -> None:
    expired, closed = (client.session(f"{session_id}-{name}", "tiny", time_to_live=1) for name in ("old", "gone"))
    for session in (expired, closed):
        session.observe([1.0, 2.0])
    rivals.session(closed.id).close()
    time.sleep(2.2)  # no trace is left of either
    for session in (expired, closed):
        with pytest.raises(NotFound) as caught:
            session.observe(3.0)
        assert caught.value.reason == "SESSION_NOT_FOUND"


def test_a_session_that_redis_lost_is_made_again_under_the_usual_time_to_live(
    client: Any, rivals: Client, record: Record, session_id: str
) -> None:
    """The server tells how long it keeps the session, so the client knows that it cannot have expired."""
    session = client.session(session_id, "tiny")
    session.observe([1.0, 2.0])
    session.observe(3.0)
    record.delete()
    assert session.observe(4.0).version.step == 4
    assert rivals.session(session_id).info().version.step == 4


def test_a_gap_may_be_what_others_appended(
    make_client: Any, rivals: Client, proxy: Proxy, record: Record, session_id: str
) -> None:
    session, rival = make_client(proxy.target).session(session_id, "hourly"), rivals.session(session_id, "hourly")
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    session.observe(0.0, start_time=noon)
    older = record.read()
    rival.observe(1.0)
    session.observe(2.0, start_time=noon + timedelta(hours=2))
    record.put_back(older)
    with pytest.raises(SessionRegressed, match="nothing more was sent again"):
        session.observe(3.0)
    assert rivals.session(session_id).info().version.step == 1


def test_closing_a_busy_session_closes_it(make_client: Any, rivals: Client, proxy: Proxy, session_id: str) -> None:
    def after_a_rival(context: Any, forward: Callable[[], bytes]) -> bytes:
        rivals.session(session_id).observe(9.0)
        return forward()

    session = make_client(proxy.target).session(session_id, "tiny")
    session.observe(1.0)
    proxy.faults.extend([honest, after_a_rival, honest, after_a_rival])  # between a look and a close, twice
    session.close()
    with pytest.raises(NotFound):
        session.info()


def test_whoever_waits_behind_another_call_waits_no_longer_than_told(proxy: Proxy, session_id: str) -> None:
    client = Client(proxy.target)
    session, same = client.session(session_id, "tiny"), client.session(session_id, "tiny")
    session.observe(0.0)
    proxy.faults.append(stall)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(session.observe, 1.0)
        time.sleep(0.3)
        with pytest.raises(DeadlineExceeded, match="other calls") as caught:
            same.observe(2.0, timeout_seconds=0.3)
        assert not slow.done()
        assert not caught.value.outcome_unknown
        assert slow.result().version.step == 2
    client.close()


def test_a_long_session_goes_on_although_its_server_was_away_at_first(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    arguments = ("--redis-url", any_redis.url, "--models", str(models_folder), "--namespace", session_id)
    server = ServerProcess(*arguments)
    port = server.port
    with Client(server.target) as client:
        for value in range(20):
            client.session(session_id, "tiny").observe(float(value))
    assert server.stop() == 0
    with Client(f"127.0.0.1:{port}", timeout_seconds=30) as client, ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.session(session_id).observe, 20.0)
        time.sleep(0.5)
        server = ServerProcess(*arguments, port=port)
        assert call.result().version.step == 21
    assert server.stop() == 0


def test_a_repeated_request_still_tells_what_was_seen_when_it_was_first_sent(
    make_client: Any, rivals: Client, proxy: Proxy, session_id: str
) -> None:
    session, rival = make_client(proxy.target).session(session_id, "tiny"), rivals.session(session_id, "tiny")
    session.observe(0.0)
    proxy.faults.extend([lose, *[turn_away] * 100])
    with pytest.raises((ResourceExhausted, DeadlineExceeded)) as caught:
        session.observe(1.0, timeout_seconds=3.0)
    proxy.faults.clear()
    for value in range(20):
        rival.observe(float(value))
    step = session.observe(
        2.0
    ).version.step  # which brings the object up to date, and pushes no replay_buffer of that request
    with pytest.raises(RequestOutdated) as outdated:
        session.observe(1.0, request_id=caught.value.request_id)
    assert outdated.value.outcome_unknown
    assert rival.info().version.step == step


def test_a_look_does_not_stand_in_the_way_of_a_repeat_under_if_version(
    client: Any, rivals: Client, session_id: str
) -> None:
    session, rival = client.session(session_id, "tiny"), rivals.session(session_id, "tiny")
    session.observe(0.0)
    rival.observe(1.0)
    at = session.forecast(1).version
    assert not session.observe(2.0, request_id="mine", if_version=at).replayed
    rival.observe(3.0)
    session.forecast(1)  # others are seen to write
    assert session.observe(2.0, request_id="mine", if_version=at).replayed
