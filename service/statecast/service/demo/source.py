"""What the demo streams: this machine's own telemetry, or a column of a CSV file."""

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray

from statecast.service.rpc.scalars import MAX_MAGNITUDE

SAMPLE_SECONDS = 0.1
LONGEST_SAMPLE_SECONDS = 0.5
MAX_NAME_CHARACTERS = 60
CSV_LIVE_ROWS = 400
"""How many rows of a CSV file are streamed one by one; what lies before is history, appended at once."""


class SourceError(Exception):
    """The data cannot be streamed; the message says what and where."""


@dataclass(frozen=True)
class Source:
    """Series to stream, one session each: first its history, then `expected` samples of all of them, or about.

    `max_ahead_seconds` is that of the sessions: 0 for any time, None for the server's default.
    """

    title: str
    units: Mapping[str, str]
    history: Mapping[str, NDArray[np.float64]]
    samples: Iterator[Mapping[str, float]]
    expected: int
    max_ahead_seconds: int | None = None


def telemetry(seconds: float) -> Source:
    """Four series about this machine, ten samples a second for `seconds`."""
    units = {"cpu": "%", "memory": "MiB in use", "network": "KiB/s", "disk": "KiB/s"}
    expected = round(seconds / SAMPLE_SECONDS)
    return Source("this machine's telemetry", units, {}, islice(_telemetry_samples(), expected), expected)


def _telemetry_samples() -> Iterator[Mapping[str, float]]:
    psutil.cpu_percent()
    before, network, disk = time.monotonic(), _network_bytes(), _disk_bytes()
    while True:
        time.sleep(max(0.0, before + SAMPLE_SECONDS - time.monotonic()))
        now, cpu, network_now, disk_now = time.monotonic(), psutil.cpu_percent(), _network_bytes(), _disk_bytes()
        if now - before < LONGEST_SAMPLE_SECONDS:  # longer ones tell of the demo's own pause
            yield {
                "cpu": cpu,
                "memory": psutil.virtual_memory().used / 2**20,
                "network": (network_now - network) / 1024 / (now - before),
                "disk": (disk_now - disk) / 1024 / (now - before),
            }
        before, network, disk = now, network_now, disk_now


def _network_bytes() -> int:
    counters = psutil.net_io_counters()
    return int(counters.bytes_sent + counters.bytes_recv) if counters else 0


def _disk_bytes() -> int:
    counters = psutil.disk_io_counters()  # None where the system tells nothing, as in some containers
    return int(counters.read_bytes + counters.write_bytes) if counters else 0


def csv(path: Path, time_column: str, value_column: str) -> Source:
    """One series out of a CSV file with a header line.

    Raises:
        SourceError: if the file or a column is missing, a value is no number, or the times are not in order.
    """
    table = _read(path)
    for column in (time_column, value_column):
        if column not in table:
            raise SourceError(f"{path} has no column {column!r}; it has: {', '.join(map(str, table.columns))}")
    _check_times(path, time_column, table[time_column])
    values = _numbers(path, value_column, table[value_column])
    if len(values) < 2:
        raise SourceError(f"{path} has {len(values)} rows; the demo needs two at least")
    live = min(CSV_LIVE_ROWS, max(len(values) // 2, 1))
    name = _printable(value_column)
    samples = ({name: float(value)} for value in values[-live:])
    return Source(
        f"{name} of {_printable(path.name)}", {name: ""}, {name: values[:-live]}, samples, live, max_ahead_seconds=0
    )


def _printable(name: str) -> str:
    """The name as a session can bear it and a line can show it."""
    return "".join(character for character in name if character.isprintable())[:MAX_NAME_CHARACTERS] or "series"


def _read(path: Path) -> "pd.DataFrame":
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise SourceError(f"{path} cannot be read as CSV: {error}") from error


def _numbers(path: Path, column: str, texts: "pd.Series[Any]") -> NDArray[np.float64]:
    """The column's values, NaN where it is empty."""
    present = ~texts.str.strip().str.lower().isin(("", "nan", "na", "null", "none"))
    numbers = pd.to_numeric(texts.where(present), errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(present.to_numpy() & ~(np.abs(numbers) <= MAX_MAGNITUDE))
    if wrong.size:
        row, limit = int(wrong[0]), f"a number of at most {MAX_MAGNITUDE:g} in magnitude"
        raise SourceError(f"{path}, line {row + 2}: {column} is {texts.iloc[row]!r}, which is not {limit}")
    if not present.any():
        raise SourceError(f"{path} has no value in column {column!r}")
    return numbers


def _times(texts: "pd.Series[Any]") -> "pd.Series[Any]":
    """The times, with the day before the month where only that gives times in order."""
    month_first = pd.to_datetime(texts, errors="coerce", utc=True, format="mixed")
    if month_first.is_monotonic_increasing:
        return month_first
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dates that can only be read the other way
        day_first = pd.to_datetime(texts, errors="coerce", utc=True, format="mixed", dayfirst=True)
    return day_first if day_first.is_monotonic_increasing else month_first


def _check_times(path: Path, column: str, texts: "pd.Series[Any]") -> None:
    seconds = pd.to_numeric(texts, errors="coerce")  # counters and epochs are times too
    if seconds.isna().any():
        times = _times(texts)
        if times.isna().any():
            row = int(np.flatnonzero(times.isna().to_numpy())[0])
            raise SourceError(f"{path}, line {row + 2}: {column} is {texts.iloc[row]!r}, which is not a time")
        seconds = (times - times.iloc[0]).dt.total_seconds()
    backwards = np.flatnonzero(np.diff(seconds.to_numpy()) < 0) + 1
    if backwards.size:
        row = int(backwards[0])
        raise SourceError(
            f"{path}, line {row + 2}: {column} goes back from {texts.iloc[row - 1]} to {texts.iloc[row]}; "
            "sort the file by time first"
        )
