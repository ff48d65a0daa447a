"""What compiled kernels cost beside torch, in one process: python -m bench.kernels.

A step is one observation and a 24-step forecast of each session of a batch. Kernels and torch take turns, and a figure
is the quickest of some rounds of CPU time, since other work on the machine only adds to it. Two threads compute
different batches at once, as two engine threads do.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import click
import torch
from bench.compare.models import plain_config, usual_config

from statecast.model import Forecaster, Future, ModelConfig, bundled_models, load_model
from statecast.model.kernels.cache import KernelCache
from statecast.model.kernels.stepping import fuse

HORIZON, HOUR_NS = 24, 3_600_000_000_000
WARM_STEPS = 30
ROUNDS = 7
BATCHES = (1, 4, 16, 64, 256)
STEPS_A_ROUND = {1: 60, 4: 40, 16: 20, 64: 10, 256: 4}


class Stream:
    """A batch of sessions that takes steps."""

    def __init__(self, model: Forecaster, sessions: int) -> None:
        self._model, self._state, self._at = model, model.initial_state(sessions), 0
        self._rows, self._steps = torch.arange(sessions), torch.ones(sessions, dtype=torch.int64)
        self._values = torch.randn(sessions, 1, 1, dtype=torch.float64)

    def step(self) -> None:
        """Take an observation, and forecast."""
        times = torch.full((len(self._rows), 1), self._at * HOUR_NS) if self._model.config.frequency else None
        ahead = None if times is None else times + HOUR_NS * torch.arange(1, HORIZON + 1)
        with torch.inference_mode():
            trace = self._model.advance(self._state, self._values, times=times)
            self._model.forecast(trace.context(self._rows, self._steps), HORIZON, Future(ahead))
        self._state, self._at = trace.state, self._at + 1


def models() -> dict[str, tuple[Forecaster, Forecaster]]:
    """Return each model in torch, and with kernels."""
    makers: dict[str, Callable[[], Forecaster]] = {
        "plain LSTM": lambda: made(plain_config()),
        "as `statecast train` makes it": lambda: made(usual_config()),
        "base": bundled,
    }
    found = {name: (make(), make()) for name, make in makers.items()}
    for _, with_kernels in found.values():
        fuse(with_kernels)
    return found


def bundled() -> Forecaster:
    return cast("Forecaster", load_model(next((bundled_models() / "base").iterdir())))


def made(config: ModelConfig) -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(config).eval().requires_grad_(False)


def quickest(runs: dict[str, Callable[[], None]], steps: int) -> dict[str, float]:
    """Return the CPU seconds of a step of each, which take turns."""
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begun = time.thread_time()
            for _ in range(steps):
                run()
            found[name] = min(found[name], (time.thread_time() - begun) / steps)
    return found


def sessions_a_second(model: Forecaster, sessions: int, threads: int, seconds: float) -> float:
    """Return how many sessions' steps so many threads compute in a second of wall time."""

    def work(stream: Stream) -> int:
        done, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            stream.step()
            done += sessions
        return done

    streams = [Stream(model, sessions) for _ in range(threads)]
    for stream in streams:
        stream.step()
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, streams)) / seconds


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0.1), default=3.0, show_default=True, help="Of each throughput.")
def main(seconds: float) -> None:
    """Print two Markdown tables: CPU time, and throughput with one and two threads."""
    torch.set_num_threads(1)
    KernelCache().load()
    found = models()
    click.echo("| model | sessions | torch, us a session | kernels, us a session | ratio |\n|---|---|---|---|---|")
    for name, (in_torch, by_kernels) in found.items():
        for sessions in BATCHES:
            streams = {"torch": Stream(in_torch, sessions), "kernels": Stream(by_kernels, sessions)}
            for stream in streams.values():
                for _ in range(WARM_STEPS):
                    stream.step()
            cost = quickest({kind: stream.step for kind, stream in streams.items()}, STEPS_A_ROUND[sessions])
            torch_us, kernel_us = (1e6 * cost[kind] / sessions for kind in ("torch", "kernels"))
            click.echo(f"| {name} | {sessions} | {torch_us:.1f} | {kernel_us:.1f} | 1/{torch_us / kernel_us:.1f} |")
    click.echo("\n| model, 256 sessions a batch | one thread, sessions/s | two threads | ratio |\n|---|---|---|---|")
    for name, (_, by_kernels) in found.items():
        one, two = (sessions_a_second(by_kernels, 256, threads, seconds) for threads in (1, 2))
        click.echo(f"| {name} | {one:,.0f} | {two:,.0f} | {two / one:.2f} |")


if __name__ == "__main__":
    main()
