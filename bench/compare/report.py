"""The results of a run, as Markdown."""

import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from statecast.service.settings import Settings

from .findings import Findings, Key
from .floors import ENTRY_BYTES
from .loop import Measured
from .names import ECHO, FRAMES, OBSERVE, STREAM, UNARY
from .peers import ECHO_BYTES
from .sizes import CATCH_UP_STEPS, FRAME_SESSIONS
from .targets import Target, targets

_PACKAGES = ("torch", "grpcio", "protobuf", "redis", "hiredis", "numpy")
_SAID = {True: "reached", False: "**missed**", None: "not measured"}
_LOADS = (
    "system", "model", "mode", "at once", "answers/s", "p50 ms", "p99 ms",
    "server us", "Redis us", "client us", "AOF B", "network B", "others",
)  # fmt: skip
_FOOT = f"""\
CPU, append-only file (AOF) and network are those of one observation; p50 and p99 those of one call, which has
{FRAME_SESSIONS} observations in frames and {CATCH_UP_STEPS:,} in catch-up. Every caller waits for its answer before it
asks again, and all share the machine's cores. CPU is read from each process's own clock, in nanoseconds. Network is the
bytes of the request and response messages, or with "lo" all that went over the loopback. The AOF is not rewritten
meanwhile. "others" is how many cores something else kept busy: well above 0, the row is disturbed."""


def markdown(findings: Findings) -> str:
    """Return the whole report."""
    parts = [
        "# Statecast, its peers and its floors",
        _machine(),
        "## Loads",
        table(_LOADS, (_row(key, each) for key, each in findings.rows.items())),
        _FOOT,
        "## Floors",
        _floors(findings),
        "## Beside the sum of the floors",
        _sums(findings),
        "## Sessions",
        _sessions(findings),
        "## Targets",
        table(("target", "wanted", "found", ""), map(_target, targets(findings))),
    ]
    if findings.skipped:
        parts += ["## Skipped", "\n".join(f"- {each}" for each in findings.skipped)]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with numbers aligned right, or a sentence if there are no rows."""
    lines = [list(row) for row in rows]
    if not lines:
        return "Not measured."
    widths = [max(len(line[at]) for line in (list(head), *lines)) for at in range(len(head))]
    is_number = [all(_is_number(line[at]) for line in lines) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, is_number, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = [
        ("-" * (width - 1) + ":") if number else "-" * width for width, number in zip(widths, is_number, strict=True)
    ]
    return "\n".join([line(head), line(rule), *map(line, lines)])


def number(value: float) -> str:
    """Format a number with at least three significant digits, or two decimals below 10."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in ("", "-")


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {_processor()}, {psutil.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB; Linux {platform.release()}; "
        f"Python {platform.python_version()}, {packages}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _row(key: Key, measured: Measured) -> list[str]:
    times = [number(measured.p50_ms), number(measured.p99_ms)]
    cpu = [number(each) if each else "-" for each in (measured.server_us, measured.redis_us, measured.client_us)]
    network = number(measured.network_bytes) + (" lo" if measured.counts_loopback else "")
    aof = number(measured.aof_bytes) if measured.aof_bytes else "-"
    return [
        key.system,
        key.model,
        key.mode,
        f"{key.concurrency:,}",
        number(measured.rate),
        *times,
        *cpu,
        aof,
        network,
        number(measured.other_cores),
    ]


def _floors(findings: Findings) -> str:
    echoes = [(each, findings.of(ECHO, UNARY, each)) for each in (1, 64, 256)]
    rows = [
        (f"echo of {ECHO_BYTES} bytes, {concurrency} at once, us a message", number(echo.server_us))
        for concurrency, echo in echoes
        if echo
    ]
    if stream := findings.of(ECHO, STREAM, 64):
        rows.append((f"echo of {ECHO_BYTES} bytes on 64 streams, us a message", number(stream.server_us)))
    if commit := findings.commit:
        what = f"commit of {FRAME_SESSIONS} sessions, {ENTRY_BYTES} bytes each"
        rows.append((f"{what}: client, us a session", number(commit.client_us)))
        rows.append((f"{what}: Redis, us a session", number(commit.redis_us)))
        rows.append((f"{what}: elapsed, us a session", number(commit.elapsed_us)))
        rows.append((f"{what}: append-only file, bytes a session", number(commit.aof_bytes)))
    for batch, taken in findings.matrices_us.items():
        rows.append((f"matrix products of a step, batch {batch}, us a session", number(taken)))
    for batch, rate in findings.lstm_rates.items():
        rows.append((f"torch.nn.LSTM over {CATCH_UP_STEPS:,} steps, batch {batch}, observations/s", number(rate)))
    return table(("floor (CPU, one thread)", "found"), rows)


def _sums(findings: Findings) -> str:
    rows = []
    for concurrency in (1, 64, 256):
        echo = findings.of(ECHO, UNARY, concurrency)
        rows += _sum(findings, UNARY, concurrency, echo.server_us if echo else None)
    stream = findings.of(ECHO, STREAM, 64)
    for mode in (FRAMES, OBSERVE):
        rows += _sum(findings, mode, FRAME_SESSIONS, stream.server_us / FRAME_SESSIONS if stream else None)
    note = f"A commit counts as in batches of {FRAME_SESSIONS}; a frame as one message on a stream."
    head = ("mode", "at once", "message us", "commit us", "matrices us", "sum us", "server us", "times the sum")
    return f"{table(head, rows)}\n\n{note}"


def _sum(findings: Findings, mode: str, concurrency: int, message_us: float | None) -> list[list[str]]:
    """Return one row in a list, or an empty list if a part was not measured."""
    ours, matrices_us = findings.ours(mode, concurrency), findings.matrices_us.get(concurrency)
    if ours is None or message_us is None or matrices_us is None or findings.commit is None:
        return []
    parts = [message_us, findings.commit.client_us, matrices_us]
    cells = [*parts, sum(parts), ours.server_us, ours.server_us / sum(parts)]
    return [[mode, str(concurrency), *map(number, cells)]]


def _sessions(findings: Findings) -> str:
    rows = []
    if history := findings.history:
        rows.append(("server CPU after step 10, us an observation", number(history.early_us)))
        rows.append((f"server CPU after step {history.steps:,}, us an observation", number(history.late_us)))
        rows.append(("ratio, median over turns", number(history.ratio)))
    if many := findings.population:
        rows.append((f"sessions in Redis, of which the server keeps {Settings.cache_sessions:,}", f"{many.sessions:,}"))
        rows.append(("sessions opened/s", number(many.opened_a_second)))
        rows.append(("memory of Redis, bytes a session", number(many.redis_bytes)))
        rows.append(("memory of the server before them, MiB", number(many.empty_server_bytes / 2**20)))
        rows.append(("memory of the server after the load, MiB", number(many.server_bytes / 2**20)))
    if starts := findings.start_seconds:
        rows.append((f"start to SERVING, s, median of {len(starts)}", number(statistics.median(starts))))
    return table(("", "found"), rows)


def _target(target: Target) -> list[str]:
    bound = f"{'<=' if target.is_upper else '>='} {target.bound:,g}"
    found = number(target.found) if target.found is not None else "-"
    return [target.what, bound, found, _SAID[target.is_reached]]
