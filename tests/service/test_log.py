"""Each event is one line, whatever its values are."""

import json
import logging
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest

from statecast.service.log import INDENT, TEXT, JsonFormatter, TextFormatter, is_json_line, shortened, with_fields

HOSTILE = 'a\n2024-01-01 00:00:00,000 INFO x: forged\r\t\x1b[31m\x00\x85\u2028\u202e\ud800 "b" c=d \\'


class Written:
    """A logger and what it has written."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._stream = StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(formatter)
        self.log = logging.Logger("some.logger")
        self.log.addHandler(handler)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def event(self) -> dict[str, Any]:
        """The only line, from JSON."""
        (line,) = self.text.splitlines()
        assert is_json_line(line + "\n")
        event: dict[str, Any] = json.loads(line)
        return event


@pytest.fixture
def as_text() -> Written:
    return Written(TextFormatter(TEXT))


@pytest.fixture
def as_json() -> Written:
    return Written(JsonFormatter())


def test_fields_follow_the_text(as_text: Written) -> None:
    as_text.log.info("%d sessions", 3, extra=with_fields(code="OK", seconds=0.5, session="a b", none=None, empty=""))
    assert as_text.text.endswith(' INFO some.logger: 3 sessions code=OK seconds=0.5 session="a b"\n')


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain-1.2/é", "plain-1.2/é"), ("a=b", '"a=b"'), ('say "x"', '"say \\"x\\""'), ("a\\n", '"a\\\\n"'),
        ("a\nb", '"a\\nb"'), ("\x1b[31m", '"\\u001b[31m"'), ("\x85\u2028\u202e", '"\\u0085\\u2028\\u202e"'),
        (True, "True"), (12, "12"),
    ],
)  # fmt: skip
def test_values_are_quoted_where_needed(as_text: Written, value: object, shown: str) -> None:
    as_text.log.info("text", extra=with_fields(value=value))
    assert as_text.text.endswith(f": text value={shown}\n")


def test_no_value_and_no_message_forges_a_line_of_text(as_text: Written) -> None:
    as_text.log.info("said %s", HOSTILE, extra=with_fields(session=HOSTILE))
    assert len(as_text.text.splitlines()) == 1
    assert as_text.text[:-1].isprintable()


def test_an_exception_is_shown_but_cannot_forge_a_line_of_text(as_text: Written) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        as_text.log.exception("failed", extra=with_fields(kind="step"))
    first, *others = as_text.text.splitlines()
    assert first.endswith(" ERROR some.logger: failed kind=step")
    assert others[0] == f"{INDENT}Traceback (most recent call last):"
    assert all(line.startswith(INDENT) and line.isprintable() for line in others)


def test_a_line_of_json(as_json: Written) -> None:
    as_json.log.warning("%d sessions", 3, extra=with_fields(session="é", seconds=0.5, steps=2, ready=True, level="x"))
    assert as_json.event.pop("time").endswith("Z")
    assert as_json.event | {"time": ""} == {
        "time": "", "level": "WARNING", "logger": "some.logger", "message": "3 sessions",
        "session": "é", "seconds": 0.5, "steps": 2, "ready": True,
    }  # fmt: skip
    assert len(as_json.event["time"]) == len("2024-05-01T12:34:56.789Z")


def test_no_value_and_no_message_forges_a_line_of_json(as_json: Written) -> None:
    fields = with_fields(session=HOSTILE, odd=object, missing=float("nan"))
    as_json.log.info("said %s", HOSTILE, extra=fields)
    assert as_json.text[:-1].isprintable()
    assert (as_json.event["message"], as_json.event["session"]) == (f"said {HOSTILE}", HOSTILE)
    assert (as_json.event["odd"], as_json.event["missing"]) == (str(object), "nan")


def test_an_exception_is_in_the_same_line_of_json(as_json: Written) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        as_json.log.exception("failed", stack_info=True)
    assert as_json.event["exception"].startswith("Traceback (most recent call last):\n")
    assert HOSTILE in as_json.event["exception"]
    assert "Stack (most recent call last):" in as_json.event["exception"]


def test_a_long_text_is_shortened() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "abc..."


@pytest.mark.parametrize("line", ["{}\n", "text\n", '{"time": "\n', ' {"time": "x"}\n'])
def test_other_lines_are_not_taken_for_lines_of_json(line: str) -> None:
    assert not is_json_line(line)


PROGRAM = """
import logging, threading, warnings
from statecast.service.log import configure_logging
configure_logging("info", "json")
warnings.warn("of a library")
class Broken:
    def __del__(self):
        raise ValueError("in a finalizer")
Broken()
def fail():
    raise ValueError("in a thread")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise ValueError("at the end")
"""


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """Return the lines of a program in which much goes wrong."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_what_python_would_print_is_json_as_well(events: list[dict[str, Any]]) -> None:
    warning, *caught = events
    assert warning["logger"] == "py.warnings"
    assert "UserWarning: of a library" in warning["message"]
    assert [event["level"] for event in caught] == ["CRITICAL"] * 3
    texts = ["in a finalizer", "in a thread", "at the end"]
    assert [event["exception"].rpartition("ValueError: ")[2] for event in caught] == texts
