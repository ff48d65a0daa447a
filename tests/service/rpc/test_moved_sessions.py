"""A record that no server can have written is refused, even if its checksums hold."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from statecast.service.engine.transfer import Arrival
from statecast.service.errors import InvalidRequest
from statecast.service.rpc.moved_sessions import to_arrivals
from statecast.service.store.portable import to_portable
from statecast.service.store.record import Entry, Record, RequestMark, Snapshot
from statecast.service.version import Version
from statecast.v1 import admin_service_pb2 as pb

SNAPSHOT = Snapshot("tiny", "1", bytes(32), 1, b"state", Version(3, 7), None, 60_000)
MARK = RequestMark(b"id", b"12345678")


def arrival(snapshot: Snapshot = SNAPSHOT, *entries: Entry) -> Arrival | Exception:
    record = Record(snapshot, entries, b"")
    session = pb.ExportedSession(session_id="s", record=to_portable("s", record))
    (found,) = to_arrivals(pb.ImportSessionsRequest(sessions=[session]), "acme")
    return found


def entry(value: float = 1.0, last_time: int | None = None, mark: RequestMark | None = None) -> Entry:
    return Entry(np.array([[value]]), last_time, mark, Version(4, 8))


def test_a_session_arrives_for_the_tenant_of_its_caller() -> None:
    found = arrival(SNAPSHOT, entry(np.nan, 5, MARK))
    assert isinstance(found, Arrival)
    assert (found.key, found.version, found.left_ms) == ("acme\0s", Version(4, 8), None)


WRONG: dict[str, Callable[[], Arrival | Exception]] = {
    "its session is closed": lambda: arrival(replace(SNAPSHOT, closed=True)),
    "its time to live is 0 ms": lambda: arrival(replace(SNAPSHOT, ttl_ms=0)),
    "its time to live is 1000000000000 ms": lambda: arrival(replace(SNAPSHOT, ttl_ms=10**12)),
    "its max_ahead is 1000000000000000 ms": lambda: arrival(replace(SNAPSHOT, max_ahead_ms=10**15)),
    "it is at step 9223372036854775808": lambda: arrival(replace(SNAPSHOT, version=Version(2**63, 0))),
    "too many steps follow its snapshot": lambda: arrival(
        SNAPSHOT, Entry(np.zeros((40_000, 1)), None, None, Version(4, 8))
    ),
    "a time in it is outside": lambda: arrival(replace(SNAPSHOT, last_time=-(2**63))),
    "a time in it is outside the years": lambda: arrival(SNAPSHOT, entry(1.0, 2**63 - 1)),
    "its categories are too many": lambda: arrival(replace(SNAPSHOT, categories={f"{n}": "" for n in range(101)})),
    "its categories are too many or too long": lambda: arrival(replace(SNAPSHOT, categories={"a": "b" * 257})),
    "it remembers too many": lambda: arrival(replace(SNAPSHOT, recent=(MARK,) * 17)),
    "it remembers too many versions": lambda: arrival(replace(SNAPSHOT, lineage=(Version(1, 1),) * 18)),
    "it remembers a request id": lambda: arrival(SNAPSHOT, entry(mark=RequestMark(b"\xff", b"12345678"))),
    "it remembers a request id that": lambda: arrival(SNAPSHOT, entry(mark=RequestMark(b"x" * 65, b"12345678"))),
    "a value in it is too large": lambda: arrival(SNAPSHOT, entry(np.inf)),
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_no_request_could_lead_to_is_refused(problem: str) -> None:
    found = WRONG[problem]()
    assert isinstance(found, InvalidRequest), found
    assert found.message.startswith(f"sessions[0].record: {problem}")
