"""A record that no server can have written is refused, even if its checksums hold."""

import math
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest

from statecast.service.engine.transfer import Arrival
from statecast.service.errors import InvalidRequest
from statecast.service.rpc.moved_sessions import to_arrivals
from statecast.service.store.portable import to_portable
from statecast.service.store.record import Entry, Record, Snapshot
from statecast.service.version import Version
from statecast.v1 import admin_service_pb2 as pb

SNAPSHOT = Snapshot(Version(3, 7), None, 60_000, model="tiny", model_version="1", width=1, state=b"state")
DIGEST = b"12345678"


def arrival(snapshot: Snapshot = SNAPSHOT, *entries: Entry) -> Arrival | Exception:
    record = Record(snapshot, entries, b"")
    session = pb.ExportedSession(session_id="s", record=to_portable("s", record))
    (found,) = to_arrivals(pb.ImportSessionsRequest(sessions=[session]), "acme")
    return found


def entry(value: float = 1.0, last_time: int | None = None, request_id: bytes = b"") -> Entry:
    return Entry(1, struct.pack("<d", value), last_time, request_id, DIGEST if request_id else b"", Version(4, 8))


def test_a_session_arrives_for_the_tenant_of_its_caller() -> None:
    found = arrival(SNAPSHOT, entry(math.nan, 5, b"id"))
    assert isinstance(found, Arrival)
    assert (found.key, found.version, found.left_ms) == ("acme\0s", Version(4, 8), None)


WRONG: dict[str, Callable[[], Arrival | Exception]] = {
    "its session is closed": lambda: arrival(replace(SNAPSHOT, closed=True)),
    "its time to live is 0 ms": lambda: arrival(replace(SNAPSHOT, ttl_ms=0)),
    "its time to live is 1000000000000 ms": lambda: arrival(replace(SNAPSHOT, ttl_ms=10**12)),
    "its max_ahead is 1000000000000000 ms": lambda: arrival(replace(SNAPSHOT, max_ahead_ms=10**15)),
    "its frequency is too long": lambda: arrival(replace(SNAPSHOT, frequency="1" * 33)),
    "it is at step 9223372036854775808": lambda: arrival(replace(SNAPSHOT, version=Version(2**63, 0))),
    "too many steps follow its snapshot": lambda: arrival(
        SNAPSHOT, Entry(40_000, bytes(8 * 40_000), None, b"", b"", Version(4, 8))
    ),
    "a time in it is outside": lambda: arrival(replace(SNAPSHOT, last_time=-(2**63))),
    "a time in it is outside the years": lambda: arrival(SNAPSHOT, entry(1.0, 2**63 - 1)),
    "its categories are too many": lambda: arrival(replace(SNAPSHOT, categories={f"{n}": "" for n in range(101)})),
    "its categories are too many or too long": lambda: arrival(replace(SNAPSHOT, categories={"a": "b" * 257})),
    "damaged, or of another session: it remembers too many": lambda: arrival(
        replace(SNAPSHOT, recent={bytes([number]): DIGEST for number in range(17)})
    ),
    "damaged, or of another session: it remembers too many versions": lambda: arrival(
        replace(SNAPSHOT, lineage=deque([Version(1, 1)] * 18))
    ),
    "it remembers a request id": lambda: arrival(SNAPSHOT, entry(request_id=b"\xff")),
    "it remembers a request id that": lambda: arrival(SNAPSHOT, entry(request_id=b"x" * 65)),
    "a value in it is too large": lambda: arrival(SNAPSHOT, entry(math.inf)),
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_no_request_could_lead_to_is_refused(problem: str) -> None:
    found = WRONG[problem]()
    assert isinstance(found, InvalidRequest), found
    assert found.message.startswith(f"sessions[0].record: {problem}")
