"""What the log says about requests, and that a flood of them makes few lines."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from support import await_true
from support.calls import PlainCall

from statecast.service.access.principal import ANYBODY, STRANGER, principal_of
from statecast.service.engine.request import Request
from statecast.service.errors import (
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServiceError,
    StoreRefuses,
    Unavailable,
)
from statecast.service.metrics import Metrics
from statecast.service.rpc import request_log
from statecast.service.rpc.accounting import Accounts, Kind, outcomes
from statecast.service.rpc.request_log import LONGEST_MESSAGE, MOST_LINES, RequestLog, level_of, trace_id_of
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.reasons import Reason

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALL = PlainCall(principal_of("acme", "write", "key 1a2b"), parent=f"00-{TRACE}-00f067aa0ba902b7-01")
MESSAGE = pb.ForecastRequest(session_id="s", request_id="r", horizon=1)
MISSING = NotFound("there is no session 's'", Reason.SESSION_NOT_FOUND)


def fields(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.__dict__["fields"]
    return found


def accounts(slow_seconds: float = 0.0) -> tuple[Accounts, RequestLog]:
    written = RequestLog(slow_seconds)
    return Accounts(Metrics(), written), written


def fail(error: Exception, asked: object = MESSAGE, call: PlainCall = CALL, times: int = 1) -> None:
    """Let requests fail."""
    settling, _ = accounts()
    for _ in range(times):
        settling.failed(Kind.STEP, 0.0, error, asked, call)


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def test_a_failed_request_makes_a_line(caplog: pytest.LogCaptureFixture) -> None:
    fail(MISSING)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.message) == ("statecast.requests", "INFO", "request failed")
    told = dict(fields(record))
    assert told.pop("seconds") > 0
    assert told == {
        "code": "NOT_FOUND", "reason": "SESSION_NOT_FOUND", "kind": "step", "session": "s", "request_id": "r",
        "tenant": "acme", "credential": "key 1a2b", "peer": "10.0.0.1:1234", "trace_id": TRACE,
        "error": "there is no session 's'",
    }  # fmt: skip


async def test_what_is_unknown_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    fail(MISSING, pb.ListSessionsRequest(), PlainCall(STRANGER))
    fail(MISSING, None, PlainCall(ANYBODY))
    stranger, anybody = caplog.records
    assert fields(stranger).keys() == {"code", "reason", "kind", "peer", "seconds", "error"}
    assert fields(anybody).keys() == {"code", "reason", "kind", "peer", "seconds", "error", "tenant"}


async def test_long_names_and_messages_are_shortened(caplog: pytest.LogCaptureFixture) -> None:
    name = "x" * 100
    fail(NotFound("y" * 1000, Reason.SESSION_NOT_FOUND), pb.ForecastRequest(session_id=name, request_id=name))
    told = fields(caplog.records[0])
    assert told["session"] == told["request_id"] == "x" * 64 + "..."
    assert told["error"] == "y" * LONGEST_MESSAGE + "..."


@pytest.mark.parametrize("field", ["observations.values[3]", "observations.covariates[0]", "future_covariates[12]"])
async def test_values_are_not_shown(field: str, caplog: pytest.LogCaptureFixture) -> None:
    fail(InvalidRequest(field, "1234.5 is too large"))
    assert fields(caplog.records[0])["error"] == f"{field}: not valid"


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (MISSING, logging.INFO),
        (Overloaded("full", Reason.QUEUE_FULL), logging.INFO),
        (DeadlinePassed("late", Reason.DEADLINE_PASSED), logging.INFO),
        (Unavailable("gone", Reason.STORE_UNREACHABLE), logging.WARNING),
        (Overloaded("full", Reason.STORE_FULL), logging.ERROR),
        (StoreRefuses("no", Reason.STORE_REFUSES), logging.ERROR),
        (RuntimeError("a bug"), logging.ERROR),
    ],
)
async def test_faults_of_the_server_are_above_info(
    error: Exception, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    fail(error)
    (record,) = caplog.records
    assert record.levelno == level
    assert bool(record.exc_info) is not isinstance(error, ServiceError)


def test_every_outcome_has_a_level() -> None:
    assert {level_of(outcome) for outcome in outcomes()} == {logging.INFO, logging.WARNING, logging.ERROR}


async def test_a_flood_makes_few_lines_and_a_summary(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "PERIOD_SECONDS", 0.05)
    settling, _ = accounts()
    for _ in range(MOST_LINES + 1234):
        settling.failed(Kind.STEP, 0.0, MISSING, MESSAGE, CALL)
    settling.failed(Kind.STEP, 0.0, Overloaded("full", Reason.QUEUE_FULL), MESSAGE, CALL)  # another sort
    assert len(caplog.records) == MOST_LINES + 1
    await asyncio.to_thread(await_true, lambda: len(caplog.records) > MOST_LINES + 1)
    summary = caplog.records[-1]
    assert summary.message == "request failed: ... and 1,234 more like it"
    assert fields(summary) == {"code": "NOT_FOUND", "reason": "SESSION_NOT_FOUND", "more": 1234}
    caplog.clear()
    settling.failed(Kind.STEP, 0.0, MISSING, MESSAGE, CALL)  # in another period
    assert len(caplog.records) == 1


async def test_the_end_brings_the_summary(caplog: pytest.LogCaptureFixture) -> None:
    settling, written = accounts(1.0)
    for _ in range(MOST_LINES + 2):
        settling.failed(Kind.STEP, 0.0, MISSING, MESSAGE, CALL)
    written.close()
    summaries = sorted(record.message for record in caplog.records if "more like it" in record.message)
    assert summaries == ["request failed: ... and 2 more like it", "slow request: ... and 2 more like it"]


async def test_slow_requests_say_how_long_they_waited(caplog: pytest.LogCaptureFixture) -> None:
    settling, _ = accounts(1.0)
    request = Request("s", request_id=b"r", values=np.array([98765.5]))
    request.queue_seconds = 0.25
    settling.succeeded(Kind.STEP, 0.0, request, CALL)
    settling.cancelled(Kind.STEP, 0.0, request, CALL)
    slow, gone = caplog.records
    assert slow.message == gone.message == "slow request"
    assert (fields(slow)["code"], fields(gone)["code"]) == ("OK", "CANCELLED")
    assert (fields(slow)["session"], fields(slow)["request_id"], fields(slow)["queue_seconds"]) == ("s", "r", 0.25)
    assert "98765" not in str(fields(slow))


async def test_quick_requests_make_no_line(caplog: pytest.LogCaptureFixture) -> None:
    settling, _ = accounts()
    settling.succeeded(Kind.STEP, 0.0, MESSAGE, CALL)
    settling.cancelled(Kind.STEP, 0.0, MESSAGE, CALL)
    settling, _ = accounts(1e9)
    settling.succeeded(Kind.STEP, 0.0, MESSAGE, CALL)
    assert not caplog.records


async def test_at_debug_every_request_makes_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settling, _ = accounts()
    for _ in range(MOST_LINES * 2):
        settling.succeeded(Kind.STEP, 0.0, MESSAGE, CALL)
    settling.cancelled(Kind.STEP, 0.0, MESSAGE, CALL)
    settling.failed(Kind.STEP, 0.0, MISSING, MESSAGE, CALL)
    codes = [fields(record)["code"] for record in caplog.records if record.message == "request"]
    assert codes == ["OK"] * MOST_LINES * 2 + ["CANCELLED", "NOT_FOUND"]


async def test_a_call_of_many_requests_that_fails_is_named(caplog: pytest.LogCaptureFixture) -> None:
    settling, _ = accounts()
    settling.call_failed("ForecastStream", 0.0, Overloaded("full", Reason.STREAMS_FULL), CALL)
    assert fields(caplog.records[0])["kind"] == "ForecastStream"
    assert "session" not in fields(caplog.records[0])


@pytest.mark.parametrize(
    ("header", "trace_id"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later", TRACE),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", None),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7", None),
        (f"00-{TRACE}-00f067aa0ba902b7-01\n", None),
        ("", None),
        (None, None),
    ],
)
def test_the_trace_id_is_read_as_w3c_says(header: str | None, trace_id: str | None) -> None:
    assert trace_id_of(header) == trace_id
