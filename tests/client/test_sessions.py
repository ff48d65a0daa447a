"""Sessions copied, listed, and brought back after the server has lost what it acknowledged."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.models import HORIZON
from support.redis_process import RedisProcess

from statecast.client import AlreadyExists, InvalidArgument, NotFound, SessionRegressed, SomeFailed, VersionMismatch


class Records:
    """The records of one server, to take copies of and to put back."""

    def __init__(self, redis: RedisProcess) -> None:
        self._client = redis.client

    def copy(self, session_id: str) -> Callable[[], object]:
        """Takes a copy; the result puts it back."""
        key = f"shared:default:{session_id}"
        value = self._client.get(key)
        if value is None:
            return lambda: self._client.delete(key)
        assert isinstance(value, bytes)
        return lambda: self._client.set(key, value, keepttl=True)


@pytest.fixture
def records(any_redis: RedisProcess) -> Records:
    return Records(any_redis)


def test_a_fork_goes_its_own_way(client: Any, session_id: str) -> None:
    session = client.session(session_id, "tiny")
    before = session.step([1.0, 2.0], HORIZON)
    other = session.fork(session_id + "-what-if", time_to_live=90, if_version=before.version)
    assert other.version == before.version
    assert other.info().time_to_live.total_seconds() == 90
    assert other.forecast(HORIZON).median == pytest.approx(before.median)
    assert other.observe(3.0).version == session.observe(3.0).version
    assert other.observe(9.0).version != session.observe(4.0).version
    with pytest.raises(AlreadyExists):
        session.fork(other.id)
    with pytest.raises(VersionMismatch):
        session.fork(session_id + "-late", if_version=before.version)
    with pytest.raises(InvalidArgument, match="time_to_live"):
        session.fork(session_id + "-short", time_to_live=0)


def listed(client: Any, prefix: str) -> dict[str, Any]:
    return {info.session_id: info for info in client.sessions(prefix)}


def test_sessions_are_listed(client: Any, session_id: str) -> None:
    sessions = [client.session(f"{session_id}-{number}", "tiny") for number in range(30)]
    client.observe_many([(session, [1.0] * number) for number, session in enumerate(sessions)])
    found = listed(client, session_id)
    assert found == {session.id: session.info() for session in sessions}
    sessions[0].close()
    assert sessions[0].id not in listed(client, session_id)
    assert listed(client, session_id + "-29") == {sessions[29].id: sessions[29].info()}


def test_lost_observations_are_sent_again(
    client: Any, records: Records, session_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    session = client.session(session_id, "tiny")
    session.observe([1.0, 2.0])
    put_back = records.copy(session_id)
    for value in (3.0, 4.0):
        session.observe(value)
    session.observe([5.0, 6.0])
    put_back()
    with caplog.at_level(logging.WARNING):
        receipt = session.observe(7.0)
    assert receipt.version.step == 7
    assert "sending 3 requests again" in caplog.text
    whole = client.session(session_id + "-whole", "tiny").observe([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert receipt.version == whole.version
    put_back()
    assert session.forecast(HORIZON).version == whole.version


def test_a_lost_session_is_made_again(client: Any, records: Records, session_id: str) -> None:
    vanish = records.copy(session_id)
    session = client.session(session_id, "tiny", time_to_live=600)
    session.observe([1.0, 2.0])
    session.observe(3.0)
    vanish()
    assert session.observe(4.0).version.step == 4
    assert session.info().time_to_live.total_seconds() == 600


def test_many_sessions_are_brought_back_each_for_itself(client: Any, records: Records, session_id: str) -> None:
    good, lost, gone = (client.session(f"{session_id}-{name}", "tiny") for name in ("good", "lost", "gone"))
    gone = client.session(gone.id, "tiny", replay_requests=0)
    sessions = [good, lost, gone]
    client.observe_many([(session, 1.0) for session in sessions])
    put_back = [records.copy(lost.id), records.copy(gone.id)]
    client.observe_many([(session, 2.0) for session in sessions])
    for each in put_back:
        each()
    with pytest.raises(SomeFailed) as caught:
        client.observe_many([(session, 3.0) for session in sessions])
    first, second, third = caught.value.results
    assert (first.version.step, second.version.step) == (3, 3)  # type: ignore[union-attr]
    assert isinstance(third, SessionRegressed)


def test_what_the_buffer_does_not_hold_is_said(client: Any, records: Records, session_id: str) -> None:
    session = client.session(session_id, "tiny", replay_requests=2)
    start = session.observe(0.0).version
    put_back = records.copy(session_id)
    for value in (1.0, 2.0, 3.0):
        seen = session.observe(value).version
    put_back()
    with pytest.raises(SessionRegressed, match="holds nothing but") as caught:
        session.observe(4.0)
    assert (caught.value.current, caught.value.last_seen) == (start, seen)
    assert session.info().version == start
    # Whoever decides to go on from what is left takes a new object.
    assert client.session(session_id).observe(4.0).version.step == 2


def test_where_others_wrote_in_between_nothing_is_sent_again(client: Any, records: Records, session_id: str) -> None:
    session, other = client.session(session_id, "tiny"), client.session(session_id, "tiny")
    session.observe(1.0)
    put_back = records.copy(session_id)
    session.observe(2.0)
    other.observe(3.0)
    session.observe(4.0)
    put_back()
    for each in (session, other):
        with pytest.raises(SessionRegressed):
            each.observe(5.0)
    assert session.info().version.step == 1


def test_closing_is_no_loss(client: Any, session_id: str) -> None:
    session, other = client.session(session_id, "tiny"), client.session(session_id, "tiny")
    session.observe(1.0)
    other.close()
    with pytest.raises(NotFound) as caught:
        session.observe(2.0)
    assert caught.value.reason == "SESSION_CLOSED"
    client.session(session_id, "tiny").observe(7.0)
    with pytest.raises(SessionRegressed):
        session.observe(2.0)
