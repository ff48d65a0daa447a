"""CPU time of each stage of the engine for one request of a batch: python -m bench.engine.

All in one process, without a transport: conversion, engine and answer, with a real Redis. A figure is the twentieth
part of the rounds that was quickest, since other work on the machine only adds to it.
"""

import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click
import torch
from bench.compare.models import plain_config, usual_config, write_models
from bench.compare.servers import private_redis
from bench.compare.sizes import FRAME_SESSIONS, HORIZON

from statecast.model.kernels.cache import KernelCache
from statecast.model.kernels.stepping import fuse
from statecast.service.access.principal import ANYBODY
from statecast.service.engine import engine as stages
from statecast.service.engine.engine import Engine
from statecast.service.engine.plan import Planner
from statecast.service.engine.request import Outcome, Request
from statecast.service.engine.session_cache import SessionCache
from statecast.service.metrics import Metrics
from statecast.service.models.registry import load_registry
from statecast.service.rpc import encoding
from statecast.service.rpc.engine_client import Call
from statecast.service.rpc.forecast_requests import to_request
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Store
from statecast.service.version import Version
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

WARM_ROUNDS = 5
BEGIN_SECONDS = 1_700_000_000 // 3600 * 3600
CALL = Call("bench", None, ANYBODY)
STAGES = {
    "read the request from its message": "read",
    "load: look the session up": "_load",
    "decide: what it appends; its version and digest": "decide",
    "the model takes in the observation": "model.advance",
    "the model forecasts": "model.forecast",
    "copy states from memory and back, inputs, forecasts of requests": "rest of advance",
    "write: the entry": "write",
    "commit: without the wait for Redis": "_commit",
    "keep: move the session on": "rest of keep",
    "count": "count",
    "answer: outcome and its bytes": "answer",
}


class Stopwatch:
    """The thread's CPU time in wrapped functions, round by round."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def wrap(self, place: Any, name: str, label: str = "") -> None:
        """Time every call of a function, in place."""
        setattr(place, name, self.timed(getattr(place, name), label or name))

    def timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        """Return the function, timed under this label."""

        def run(*arguments: Any, **others: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*arguments, **others)
            finally:
                self._seconds.setdefault(label, []).append(time.thread_time() - started)

        return run

    def forget(self) -> None:
        """Forget what was measured so far."""
        self._seconds.clear()

    def quick(self, label: str) -> float:
        """Return the seconds of a quick round."""
        ordered = sorted(self._seconds[label])
        return ordered[len(ordered) // 20]


def measure(sessions: int, rounds: int, *, usual: bool, kernels: bool) -> dict[str, float]:
    """Return the microseconds of each stage, for a request of a batch of so many sessions."""
    torch.set_num_threads(1)
    config, watch = usual_config() if usual else plain_config(), Stopwatch()
    with tempfile.TemporaryDirectory() as folder, private_redis() as redis:
        registry = load_registry(write_models(Path(folder), config), config.name, torch.device("cpu"), require_all=True)
        if kernels:
            KernelCache().load()
            registry.prepare_with(lambda model: fuse(cast("Any", model.forecaster)))
        store = Store(connect(redis.url, 5.0), uuid.uuid4().hex)
        cache, metrics = SessionCache(2 * sessions), Metrics()
        engine = Engine(registry, store, cache, Planner(registry, 3_600_000, 1000), metrics, snapshot_every=128)
        _watch(watch, engine, cache, cast("Any", registry.get("", "").forecaster))
        read, write = watch.timed(_read, "read"), watch.timed(_written, "bytes")
        versions: list[Version | None] = [None] * sessions
        for number in range(WARM_ROUNDS + rounds):
            if number == WARM_ROUNDS:
                watch.forget()
            requests = read(_frame(number, versions, timed=usual))
            results = engine.run({request.key: [request] for request in requests})
            outcomes = [results[request.key][0] for request in requests]
            write(requests, outcomes)
            versions = [outcome.version for outcome in outcomes if isinstance(outcome, Outcome)]
        store.close()
    return {what: 1e6 * seconds / sessions for what, seconds in _parts(watch).items()}


def _watch(watch: Stopwatch, engine: Engine, cache: SessionCache, forecaster: Any) -> None:
    for name in ("decide", "advance", "write", "keep", "answer"):
        watch.wrap(stages, name)
    for name in ("_load", "_commit", "run"):
        watch.wrap(engine, name)
    watch.wrap(engine._counters, "count")
    watch.wrap(forecaster, "advance", "model.advance")
    watch.wrap(forecaster, "forecast", "model.forecast")
    watch.wrap(cache, "write", "cache.write")


def _parts(watch: Stopwatch) -> dict[str, float]:
    quick = watch.quick
    found = {label: quick(label) for label in ("read", "_load", "decide", "write", "_commit", "count")}
    found |= {label: quick(label) for label in ("model.advance", "model.forecast")}
    found["rest of advance"] = (
        quick("advance") - quick("model.advance") - quick("model.forecast") + quick("cache.write")
    )
    found["rest of keep"] = quick("keep") - quick("cache.write")
    found["answer"] = quick("answer") + quick("bytes")
    return {what: found[label] for what, label in STAGES.items()}


def _frame(number: int, versions: list[Version | None], *, timed: bool) -> bytes:
    """Return the encoded frame of a round."""
    requests = []
    for at, version in enumerate(versions):
        observations = forecast_pb2.Observations(values=[at + number % 7])
        request_id = f"{number:08x}{at:08x}"
        request = pb.ForecastRequest(session_id=f"bench-{at}", horizon=HORIZON, request_id=request_id)
        if version is None:
            request.open.SetInParent()
            if timed:
                observations.start_time.seconds = BEGIN_SECONDS
        else:
            request.last_seen.CopyFrom(forecast_pb2.Version(step=version.step, tag=version.tag))
        request.observations.CopyFrom(observations)
        requests.append(request)
    return pb.ForecastManyRequest(requests=requests).SerializeToString()


def _read(frame: bytes) -> list[Request]:
    return [to_request(message, CALL) for message in pb.ForecastManyRequest.FromString(frame).requests]


def _written(requests: list[Request], outcomes: list[Outcome]) -> bytes:
    answers = [encoding.succeeded(encoding.response(*each)) for each in zip(requests, outcomes, strict=True)]
    return encoding.results(answers)


@click.command()
@click.option("--sessions", type=click.IntRange(min=1), default=FRAME_SESSIONS, show_default=True, help="In a batch.")
@click.option("--rounds", type=click.IntRange(min=1), default=200, show_default=True, help="Batches to measure.")
@click.option("--torch", "torch_only", is_flag=True, help="Without compiled kernels.")
@click.option("--usual", is_flag=True, help="A model as `statecast train` makes it, instead of the plain LSTM.")
def main(sessions: int, rounds: int, *, usual: bool, torch_only: bool) -> None:
    """Print each stage's microseconds as a Markdown table."""
    found = measure(sessions, rounds, usual=usual, kernels=not torch_only)
    click.echo("| part | us |\n|---|---|")
    for what, microseconds in found.items():
        click.echo(f"| {what} | {microseconds:.1f} |")
    click.echo(f"| total | {sum(found.values()):.1f} |")


if __name__ == "__main__":
    main()
