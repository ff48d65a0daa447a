"""Plays the demo: stream, kill the server, resume, draw; and go on, if asked."""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from statecast.client import Client, Forecast, Session
from statecast.service.demo.latency import read_latency
from statecast.service.demo.picture import draw
from statecast.service.demo.source import Source
from statecast.service.demo.table import Row, table
from statecast.testing import LocalServer

HORIZON = 24
ROUNDING = 1e-4
"""How far two computations of one forecast may lie apart, as a part of its largest value; float32 gives 1e-6."""
QUIET_LINE_SECONDS = 2.0


class DemoFailed(Exception):
    """A session did not resume as it should have; the message names it."""


@dataclass
class _Track:
    """One session, with the values sent to it and its latest forecast."""

    session: Session
    history: list[float]
    killed_at: int = 0
    forecast: Forecast | None = None


@dataclass
class _Stage:
    """The demo's server, client and sessions."""

    console: Console
    server: LocalServer
    client: Client
    source: Source
    tracks: dict[str, _Track] = field(default_factory=dict)


def tell(source: Source, output: Path, *, keep: bool = False) -> None:
    """Play the demo and write its picture to `output`; then `keep` it up until Ctrl-C.

    Raises:
        DemoFailed: if a session did not resume where it was.
        ServerFailed: if the server does not start.
    """
    console = Console(highlight=False, soft_wrap=True)
    server = LocalServer("--page")
    try:
        seconds = server.start()
        console.print(f"server started in {seconds:.1f} s, with an embedded Redis, on {server.target}")
        until = "until you press Ctrl-C" if keep else "while it lasts; --keep keeps it up"
        console.print(f"look at it in a browser {until}: http://127.0.0.1:{server.metrics_port}/page/")
        with Client(server.target) as client:
            stage = _Stage(console, server, client, source)
            _open(stage)
            half = source.expected // 2
            _stream(stage, half)
            _kill_and_go_on(stage)
            _stream(stage, source.expected - half)
            _finish(stage, output)
            if keep:
                _keep(stage)
    finally:
        server.stop()


def _open(stage: _Stage) -> None:
    for name in stage.source.units:
        history = stage.source.history.get(name, np.empty(0))
        session = stage.client.session(name, max_ahead=stage.source.max_ahead_seconds)
        if history.size:
            session.observe(history)
            stage.console.print(f"session {escape(repr(name))} took {history.size} observations of history")
        stage.tracks[name] = _Track(session, history.tolist())
    stage.console.print(f"streaming {escape(stage.source.title)}, each answered with a forecast {HORIZON} steps ahead")


def _stream(stage: _Stage, samples: int) -> None:
    """Send so many samples one by one, all sessions in one call."""
    spoken_at = time.monotonic()
    with Live(console=stage.console, refresh_per_second=8, transient=False) as live:
        live_table = stage.console.is_terminal
        for taken, sample in enumerate(islice(stage.source.samples, samples), start=1):
            milliseconds = _step(stage, sample)
            rows = [_row(name, track, milliseconds) for name, track in stage.tracks.items()]
            if live_table:
                live.update(table(rows, stage.source.units))
            elif time.monotonic() - spoken_at > QUIET_LINE_SECONDS or taken == samples:
                spoken_at = time.monotonic()
                stage.console.print(escape(" | ".join(map(str, rows))))


def _step(stage: _Stage, sample: Mapping[str, float]) -> float:
    """Send one observation of every session; return the milliseconds until the answer."""
    started = time.perf_counter()
    forecasts = stage.client.step_many(
        [(stage.tracks[name].session, value) for name, value in sample.items()], horizon=HORIZON
    )
    milliseconds = (time.perf_counter() - started) * 1000
    for (name, value), forecast in zip(sample.items(), forecasts, strict=True):
        stage.tracks[name].history.append(value)
        stage.tracks[name].forecast = forecast
    return milliseconds


def _kill_and_go_on(stage: _Stage) -> None:
    before = {name: track.session.forecast(HORIZON) for name, track in stage.tracks.items()}
    pid = stage.server.kill()
    stage.console.print(f"[bold red]server (process {pid}) killed with SIGKILL[/]; starting it again ...")
    seconds = stage.server.start()
    stage.console.print(f"server serves again after {seconds:.1f} s; does each session go on where it was?")
    for name, track in stage.tracks.items():
        after = track.session.forecast(HORIZON)
        track.killed_at = len(track.history)
        compare(name, before[name], after)
        stage.console.print(
            f"  [green]✓[/] {escape(name)}: step {after.version.step}, tag {after.version.tag:016x}, the same forecast"
        )


def compare(name: str, before: Forecast, after: Forecast) -> None:
    """Check that a session is at the same version with the same forecast, but for rounding.

    Raises:
        DemoFailed: if it is not; the message names the session.
    """
    if after.version != before.version:
        raise DemoFailed(f"session {name!r} was at {before.version} before the restart, and now is at {after.version}")
    rounding = ROUNDING * np.abs(np.nan_to_num(before.values)).max()  # after a burst, also that of the values near 0
    if not np.allclose(after.values, before.values, rtol=0, atol=rounding, equal_nan=True):
        apart = np.abs(np.nan_to_num(after.values - before.values)).max()
        raise DemoFailed(f"session {name!r} gives another forecast after the restart, up to {apart:.3g} apart")


def _finish(stage: _Stage, output: Path) -> None:
    for name, track in stage.tracks.items():
        if track.forecast is None or track.forecast.version.step != len(track.history):
            raise DemoFailed(f"session {name!r} took {len(track.history)} observations but is at another step")
    steps = sum(len(track.history) for track in stage.tracks.values())
    stage.console.print(f"{steps} observations sent, {steps} taken: none lost, none twice")
    calls, (p50, p99) = read_latency(stage.server.metrics_url, "ForecastMany", (0.5, 0.99))
    if calls:
        latency = f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
        stage.console.print(f"latency by /metrics over {calls} calls since the restart: {latency}")
    draw(
        output,
        f"Statecast: {stage.source.title}",
        stage.source.units,
        {name: np.array(track.history) for name, track in stage.tracks.items()},
        {name: track.forecast for name, track in stage.tracks.items() if track.forecast},
        {name: track.killed_at for name, track in stage.tracks.items()},
    )
    stage.console.print(f"[bold]picture of history and forecast: {escape(str(output.resolve()))}[/]")


def _keep(stage: _Stage) -> None:
    """Stream on until Ctrl-C; a series that has ended stays to be looked at."""
    with suppress(KeyboardInterrupt):
        stage.console.print("streaming on; press Ctrl-C to stop")
        for sample in stage.source.samples:
            stage.client.observe_many([(stage.tracks[name].session, [value]) for name, value in sample.items()])
        threading.Event().wait()


def _row(name: str, track: _Track, milliseconds: float) -> Row:
    forecast = track.forecast
    if forecast is None:
        raise DemoFailed(f"session {name!r} got no forecast")
    return Row(
        name,
        forecast.version.step,
        f"{forecast.version.tag:016x}",
        track.history[-1],
        float(forecast.median[0]),
        (float(forecast.quantile(0.1)[0]), float(forecast.quantile(0.9)[0])),
        milliseconds,
    )
