"""Converts exported and imported sessions from and to messages, and checks what an import brings."""

from collections.abc import Iterator, Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration

from statecast.service.engine.transfer import Arrival, Exported, Taken
from statecast.service.errors import InvalidRequest, ServiceError
from statecast.service.models.policies import ALIAS
from statecast.service.rpc.fields import (
    MAX_AHEAD_SECONDS,
    MAX_FREQUENCY_CHARACTERS,
    MAX_REQUEST_ID_BYTES,
    MAX_SESSION_ID_CHARACTERS,
    START_TIME_SECONDS,
    TIME_TO_LIVE_SECONDS,
    check_length,
    from_milliseconds,
    from_version,
    to_seconds,
    to_session_id,
)
from statecast.service.rpc.sessions import MAX_CATEGORIES, MAX_CATEGORY_CHARACTERS, to_cursor
from statecast.service.rpc.status import to_status
from statecast.service.session_key import session_key
from statecast.service.store.options import DIGEST_BYTES
from statecast.service.store.portable import from_portable, to_portable
from statecast.service.store.record import REMEMBERED_UPGRADES, DamagedRecord, Record, Snapshot
from statecast.service.times import NANOSECONDS
from statecast.v1 import admin_service_pb2 as pb
from statecast.v1.limits import MAX_MAGNITUDE

MAX_SESSIONS_A_FRAME = 256
LONGEST_LEFT_SECONDS = TIME_TO_LIVE_SECONDS[1] * 17 // 16
"""A lifetime in Redis is set a sixteenth longer than asked for."""
MOST_STEPS_TO_REPLAY = 32_768
"""Loading a session takes all steps after its snapshot at once, in a batch with those of others."""


def begin_of(request: pb.ExportSessionsRequest) -> int:
    """Return where an export begins, if the request is valid."""
    check_length(request.prefix, MAX_SESSION_ID_CHARACTERS, "prefix")
    return to_cursor(request.page_token, "message")


def from_exported(session: Exported) -> pb.ExportedSession:
    """Return an exported session for the wire."""
    record = session.record
    return pb.ExportedSession(
        session_id=session.session_id,
        record=to_portable(session.session_id, record),
        time_left=None if session.left_ms is None else from_milliseconds(session.left_ms),
        model=record.snapshot.model,
        model_version=record.snapshot.model_version,
        model_digest=record.snapshot.model_digest.hex(),
        version=from_version(record.newest.version),
    )


def to_arrivals(frame: pb.ImportSessionsRequest, tenant: str) -> list[Arrival | ServiceError]:
    """Return the sessions of a frame, each for this tenant, or the error of one that is not valid.

    Raises:
        InvalidRequest: if there are too many.
    """
    if len(frame.sessions) > MAX_SESSIONS_A_FRAME:
        count = len(frame.sessions)
        raise InvalidRequest("sessions", f"{count} sessions are more than {MAX_SESSIONS_A_FRAME}; send several frames")
    arrivals: list[Arrival | ServiceError] = []
    seen: set[str] = set()
    for position, message in enumerate(frame.sessions):
        field = f"sessions[{position}]"
        try:
            if message.session_id in seen:
                raise InvalidRequest(f"{field}.session_id", "occurs twice in one frame; send each session once")
            seen.add(message.session_id)
            arrivals.append(_arrival(message, field, tenant))
        except ServiceError as error:
            arrivals.append(error.with_traceback(None))
    return arrivals


def from_taken(session_id: str, taken: Taken | ServiceError) -> pb.ImportResult:
    """Return the result of one session for the wire."""
    if isinstance(taken, ServiceError):
        return pb.ImportResult(session_id=session_id, status=to_status(taken))
    outcome = pb.IMPORT_OUTCOME_CREATED
    if taken.was_there:
        outcome = pb.IMPORT_OUTCOME_REPLACED if taken.changed else pb.IMPORT_OUTCOME_UNCHANGED
    return pb.ImportResult(session_id=session_id, outcome=outcome, replaced_version=from_version(taken.replaced))


def _arrival(message: pb.ExportedSession, field: str, tenant: str) -> Arrival:
    session_id = to_session_id(message.session_id, f"{field}.session_id")
    left_ms = _to_left_ms(message.time_left, f"{field}.time_left") if message.HasField("time_left") else None
    try:
        record = from_portable(session_id, message.record)
    except DamagedRecord as error:
        raise InvalidRequest(f"{field}.record", f"damaged, or of another session: {error}") from error
    if problem := next(_problems(record), None):
        raise InvalidRequest(f"{field}.record", f"{problem}; no server has written it")
    return Arrival(session_key(tenant, session_id), record, left_ms)


def _to_left_ms(left: Duration, field: str) -> int:
    seconds = to_seconds(left, field)
    if not 0.001 <= seconds <= LONGEST_LEFT_SECONDS:
        raise InvalidRequest(field, f"{seconds:g} s is outside 0.001 s .. {LONGEST_LEFT_SECONDS} s")
    return int(seconds * 1000)


def _problems(record: Record) -> Iterator[str]:
    """Yield what no request could have led to: a checksum does not show who has made a record."""
    snapshot = record.snapshot
    yield from _option_problems(snapshot)
    if snapshot.version.step >= 2**62:
        yield f"it is at step {snapshot.version.step}"
    if not _are_in_range([snapshot.last_time, *(entry.last_time for entry in record.entries)]):
        yield "a time in it is outside the years 1678 to 2261"
    upgrades = ((request_id, upgraded.digest) for request_id, upgraded in snapshot.upgrades.items())
    marks = [
        *snapshot.recent.items(),
        *upgrades,
        *((each.request_id, each.digest) for each in record.entries if each.request_id),
    ]
    if any(len(digest) != DIGEST_BYTES or not _is_id(request_id) for request_id, digest in marks):
        yield "it remembers a request id that is not one"
    if sum(entry.steps for entry in record.entries) > MOST_STEPS_TO_REPLAY:
        yield "too many steps follow its snapshot"
    if any((np.abs(entry.rows) > MAX_MAGNITUDE).any() for entry in record.entries):
        yield "a value in it is too large"


def _option_problems(snapshot: Snapshot) -> Iterator[str]:
    least, most = TIME_TO_LIVE_SECONDS
    if snapshot.is_over:
        yield "its session is closed"
    if not least * 1000 <= snapshot.ttl_ms <= most * 1000:
        yield f"its time to live is {snapshot.ttl_ms} ms"
    if snapshot.max_ahead_ms is not None and snapshot.max_ahead_ms > MAX_AHEAD_SECONDS * 1000:
        yield f"its max_ahead is {snapshot.max_ahead_ms} ms"
    if len(snapshot.frequency) > MAX_FREQUENCY_CHARACTERS:
        yield "its frequency is too long"
    texts = [text for pair in snapshot.categories.items() for text in pair]
    if len(snapshot.categories) > MAX_CATEGORIES or any(len(text) > MAX_CATEGORY_CHARACTERS for text in texts):
        yield "its categories are too many or too long"
    if snapshot.binding is not None and snapshot.binding.alias and not ALIAS.fullmatch(snapshot.binding.alias):
        yield "its alias is not one"
    upgrades = snapshot.upgrades
    if len(upgrades) > REMEMBERED_UPGRADES or any(each.step > snapshot.version.step for each in upgrades.values()):
        yield "it remembers upgrades that it cannot have had"


def _are_in_range(times: Sequence[int | None]) -> bool:
    earliest, latest = (seconds * NANOSECONDS for seconds in START_TIME_SECONDS)
    return all(time is None or earliest <= time < latest for time in times)


def _is_id(request_id: bytes) -> bool:
    try:
        return bool(request_id.decode()) and len(request_id) <= MAX_REQUEST_ID_BYTES
    except UnicodeDecodeError:
        return False
