"""The view of `statecast top`: a reading as tables for the terminal."""

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from statecast.service.cli.readings import Reading


def view(url: str, reading: Reading | None, problem: str) -> Group:
    """Return the view of the last reading, if there is one, and of why the metrics cannot be read now."""
    parts: list[RenderableType] = [Text(url, "bold")]
    if problem:
        parts.append(Text(f"cannot read the metrics: {problem}; trying again", "bold red"))
    if reading is None:
        return Group(*parts, *([] if problem else [Text("reading ...", "dim")]))
    state = "the server has started again; " if reading.has_restarted else ""
    age = "last reading, before that: " if problem else ""
    parts.append(Text(f"{state}{age}{reading.time}, over {reading.interval_seconds:.1f} s", "dim"))
    return Group(*parts, Text(), _requests(reading), Text(), *_outcomes(reading), _state(reading))


def _requests(reading: Reading) -> Table:
    table = _table("requests", "per second", "p50", "p99")
    total = reading.requests_per_second, reading.latency_p50_seconds, reading.latency_p99_seconds
    rows = [("all", *total)]
    rows += [
        (each.kind, each.requests_per_second, each.latency_p50_seconds, each.latency_p99_seconds)
        for each in reading.kinds
    ]
    for name, rate, p50, p99 in rows:
        table.add_row(Text(name), Text(f"{rate:,.1f}"), Text(_time(p50)), Text(_time(p99)))
    return table


def _outcomes(reading: Reading) -> list[RenderableType]:
    if not reading.outcomes:
        return []
    table = _table("outcome", "per second")
    for outcome in reading.outcomes:
        colour = "" if outcome.code == "OK" else "yellow"
        table.add_row(
            Text(f"{outcome.code} {outcome.reason}".rstrip(), colour), Text(f"{outcome.requests_per_second:,.1f}")
        )
    return [table, Text()]


def _state(reading: Reading) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    hit_rate, batch = reading.cache_hit_rate, reading.batch_sessions
    hits = "no batch" if math.isnan(hit_rate) else f"{hit_rate:.1%} hits"
    rows = {
        "observations": Text(f"{reading.observations_per_second:,.1f} per second"),
        "batch": Text("none" if math.isnan(batch) else f"{batch:,.1f} sessions on average"),
        "queue": Text(
            f"{reading.queue_requests:,} requests wait, p99 of the wait {_time(reading.queue_p99_seconds)}, "
            f"{reading.rejected_per_second:,.1f} refused per second"
        ),
        "cache": Text(f"{hits}, {reading.cached_sessions:,} sessions"),
        "redis": _redis(reading),
        "process": Text(f"{reading.cpu_cores:.2f} CPU cores, {reading.memory_bytes / 2**20:,.0f} MiB"),
    }
    if reading.envoy_connections is not None:
        rows["envoy"] = Text(f"{reading.envoy_connections:,} connections")
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _redis(reading: Reading) -> Text:
    if reading.redis_usable is False:
        return Text("NOT USABLE", "bold red")
    if reading.redis_volatile:
        return Text("VOLATILE: it evicts keys or keeps no append-only file, so sessions may be lost", "bold yellow")
    return Text("usable" if reading.redis_usable else "keeps what it is given")


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(first, min_width=14)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"
