"""The server's log: each event is one line, as text for people or as JSON for machines, with named fields.

Values cannot forge a line or a field: control characters are escaped, and fields are quoted where needed.
"""

import json
import logging
import math
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

FORMATS = ("text", "json")
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
AUDIT = "statecast.audit"
"""Name of the logger of administrative acts."""
INDENT = "    "
"""Begins each line of an exception, so that none looks like another event."""

log = logging.getLogger(__name__)

_FIELDS = "fields"
_JSON_START, _JSON_END = '{"time": "', "}"
# C0, DEL and C1, what other programs take for the end of a line, what changes the direction of text, and surrogates.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NEEDS_QUOTES = re.compile(r'[\s"=\\]')
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def configure_logging(level: str, form: str = "text") -> None:
    """Log to standard error from this level on, as "text" or as "json".

    With JSON, what Python itself would print goes to the log as well: warnings, and exceptions that nobody catches.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # gRPC logs a traceback for each call that the transport ended early, such as one with a message too large.
    logging.getLogger("grpc._cython.cygrpc").addFilter(
        lambda record: not str(record.msg).startswith("ExecuteBatchError")
    )
    if form == "json":
        _log_what_python_prints()


def with_fields(**values: object) -> dict[str, Any]:
    """Return the argument `extra` of a logger's method: fields of the line; None and empty texts are left out."""
    return {_FIELDS: {name: value for name, value in values.items() if value is not None and value != ""}}


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters, and dots if it was longer."""
    return text if len(text) <= most else f"{text[:most]}..."


def is_json_line(line: str) -> bool:
    """Return whether a line is one that the JSON format has written."""
    return line.startswith(_JSON_START) and line.rstrip("\n").endswith(_JSON_END)


class TextFormatter(logging.Formatter):
    """Lines for people: the message, then the fields as key=value; exceptions follow on lines of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        record.message, record.asctime = record.getMessage(), self.formatTime(record)
        parts = [_escaped(self.formatMessage(record))]
        parts += [f"{name}={_quoted(value)}" for name, value in _fields(record).items()]
        line = " ".join(parts)
        if exception := _exception(self, record):
            line += "".join(f"\n{INDENT}{_escaped(each)}" for each in exception.split("\n"))
        return line


class JsonFormatter(logging.Formatter):
    """Lines for machines: an object with time, level, logger and message, the fields, and the exception's text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        event: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _fields(record).items():
            event.setdefault(name, _plain(value))
        if exception := _exception(self, record):
            event["exception"] = exception
        return json.dumps(event)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, _FIELDS, {})
    return fields


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return "\n".join([*parts, formatter.formatStack(record.stack_info)] if record.stack_info else parts)


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str | int) else str(value)


def _quoted(value: object) -> str:
    text = str(value)
    if not text or _NEEDS_QUOTES.search(text) or _UNSAFE.search(text):
        return _escaped(json.dumps(text, ensure_ascii=False))
    return text


def _escaped(text: str) -> str:
    """Return a text that stays on one line."""
    return _UNSAFE.sub(lambda found: _SHORT_ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}"), text)


def _log_what_python_prints() -> None:
    logging.captureWarnings(True)

    def caught(kind: type[BaseException], error: BaseException | None, trace: Any) -> None:
        log.critical("an exception was not caught", exc_info=(kind, error or kind(), trace))

    sys.excepthook = caught
    threading.excepthook = lambda args: caught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: caught(args.exc_type, args.exc_value, args.exc_traceback)
