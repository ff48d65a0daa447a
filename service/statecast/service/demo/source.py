"""Data that the demo streams: this machine's telemetry, or series from a file."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
import psutil
from numpy.typing import NDArray

from statecast.model.data import Panel

SAMPLE_SECONDS = 0.1
LONGEST_SAMPLE_SECONDS = 0.5
MAX_NAME_CHARACTERS = 60
MOST_SERIES = 4
LIVE_ROWS = 400
"""Rows of a file to stream one by one; earlier ones are history, appended at once."""


class SourceError(Exception):
    """The data cannot be streamed; the message says what and where."""


@dataclass(frozen=True)
class Source:
    """Series to stream, one session each: first its history, then about `expected` samples of all of them.

    A live source has more samples, without end.

    `max_ahead_seconds` applies to the sessions: 0 for no limit, None for the server's default.
    """

    title: str
    units: Mapping[str, str]
    history: Mapping[str, NDArray[np.float64]]
    samples: Iterator[Mapping[str, float]]
    expected: int
    max_ahead_seconds: int | None = None


def telemetry(seconds: float) -> Source:
    """Return four series about this machine, with ten samples a second, those of `seconds` expected."""
    units = {"cpu": "%", "memory": "MiB in use", "network": "KiB/s", "disk": "KiB/s"}
    expected = round(seconds / SAMPLE_SECONDS)
    return Source("this machine's telemetry", units, {}, _telemetry_samples(), expected)


def _telemetry_samples() -> Iterator[Mapping[str, float]]:
    psutil.cpu_percent()
    before, network, disk = time.monotonic(), _network_bytes(), _disk_bytes()
    while True:
        time.sleep(max(0.0, before + SAMPLE_SECONDS - time.monotonic()))
        now, cpu, network_now, disk_now = time.monotonic(), psutil.cpu_percent(), _network_bytes(), _disk_bytes()
        if now - before < LONGEST_SAMPLE_SECONDS:  # longer ones show the demo's own pause
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
    counters = psutil.disk_io_counters()  # None where the system reports nothing, as in some containers
    return int(counters.read_bytes + counters.write_bytes) if counters else 0


def recorded(file: str, panel: Panel) -> Source:
    """Return the first series and targets of a panel; the last rows of each are streamed together.

    Raises:
        SourceError: No series has two rows.
    """
    panel = replace(panel, series=tuple(series for series in panel.series if series.rows > 1))
    if not panel.series:
        raise SourceError(f"{file}: no series has two rows, which the demo needs; read more rows, or another file")
    values = [series.values[:, 0] for series in panel.by_target().series[:MOST_SERIES]]
    live = min(LIVE_ROWS, min(map(len, values)) // 2)
    names = _names(panel)[: len(values)]
    history = {name: each[:-live] for name, each in zip(names, values, strict=True)}
    rows = zip(*(each[-live:].tolist() for each in values), strict=True)
    samples = (dict(zip(names, row, strict=True)) for row in rows)
    return Source(_printable(file), dict.fromkeys(names, ""), history, samples, live, max_ahead_seconds=0)


def _names(panel: Panel) -> list[str]:
    """Return a unique session name for each series and target."""
    if len(panel.series) == 1:
        names = [_printable(target) for target in panel.targets]
    else:
        tails = [f" {target}" for target in panel.targets] if len(panel.targets) > 1 else [""]
        names = [_printable(series.unique_id + tail) for series in panel.series for tail in tails]
    unique: list[str] = []
    for name in names:
        numbered = (f"{name} ({number})" for number in count(2))
        unique.append(next(each for each in chain([name], numbered) if each not in unique))
    return unique


def _printable(name: str) -> str:
    """Return the name without unprintable characters, shortened to fit a line."""
    return "".join(character for character in name if character.isprintable())[:MAX_NAME_CHARACTERS] or "series"
