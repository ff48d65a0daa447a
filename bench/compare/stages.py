"""The stages of a run; each starts a system, puts load on it from another process, and stops it."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import redis

from . import floors, loads, sessions
from .findings import Findings, Key, Population
from .loads import Client, Frames, Load, Unary
from .loop import Measured, Pace
from .models import plain_config, usual_config, write_models
from .names import (
    CATCH_UP,
    CLIENT,
    COLD,
    ECHO,
    FRAMES,
    GRPCIO,
    HANDWRITTEN,
    OBSERVE,
    OURS,
    PLAIN,
    SECURED,
    STREAM,
    TRITON,
    UNARY,
    USUAL,
)
from .names import WARM as WARM_MODE
from .peers import PeerFailed, Start, echo, environment, handwritten, triton
from .secured import secure
from .servers import Serving, serve
from .sizes import CATCH_UP_STEPS, CONCURRENCIES, FRAME_SESSIONS, HORIZON, Sizes
from .usage import Watched

T = TypeVar("T")
BATCHES = (1, 64, 256)
LSTM_BATCHES = (1, 8)
STREAMS = 64
USUAL_CONCURRENCY = 64


class Bench:
    """One run: measures stage by stage, reports its progress and collects the findings."""

    def __init__(self, sizes: Sizes, cache: Path, folder: Path, say: Callable[[str], None]) -> None:
        """Keep the peers' environment in `cache`, and this run's models in `folder`."""
        self.findings = Findings()
        self._sizes = sizes
        self._pace = Pace(sizes.warm_seconds, sizes.seconds)
        self._say = say
        self._models = folder

        def interpreter() -> Path:
            return environment(cache)

        self.stages: dict[str, Callable[[], None]] = {
            "floors": self.floors,
            ECHO: lambda: self._peer(ECHO, echo),
            HANDWRITTEN: lambda: self._peer(HANDWRITTEN, handwritten(interpreter)),
            TRITON: lambda: self._peer(TRITON, triton(interpreter)),
            OURS: self.ours,
            "secured": self.secured,
            "grpcio": self.over_grpcio,
            "sessions": self.many_sessions,
        }

    def floors(self) -> None:
        """Measure the floors, except the echo."""
        seconds = self._sizes.floor_seconds
        with loading() as pool:
            self.findings.commit = pool.submit(floors.commit_alone, seconds).result()
            for batch in BATCHES:
                taken = pool.submit(floors.matrix_products, batch, seconds).result()
                self.findings.matrices_us[batch] = taken
            for batch in LSTM_BATCHES:
                rate = pool.submit(floors.lstm_alone, batch, CATCH_UP_STEPS, seconds).result()
                self.findings.lstm_rates[batch] = rate
        self._say("floors: measured")

    def ours(self) -> None:
        """Measure Statecast with both models, in all modes except many sessions."""
        models = write_models(self._models, plain_config(), usual_config())
        with serve(models, PLAIN) as server, loading() as pool:
            self._started(server)
            self._steps(pool, server, OURS)
            call = self._sizes.catch_up_calls
            caught_up = pool.submit(sessions.catch_up, server.target, server.watched, call).result()
            self._found(Key(OURS, CATCH_UP, 1), caught_up)
            history = pool.submit(sessions.compare_history, server.target, server.watched, self._sizes).result()
            self.findings.history = history
            self._say(f"{OURS}, step {history.steps:,} beside step 10: {history.ratio:.3f} times the server's CPU")
            self._unary(pool, server, USUAL_CONCURRENCY, USUAL)
            self._frames(pool, server, USUAL)

    def secured(self) -> None:
        """Measure Statecast with TLS and an API key."""
        models = write_models(self._models, plain_config())
        key, access = secure(self._models)
        with serve(models, PLAIN, key=key, access=access) as server, loading() as pool:
            self._unary(pool, server, USUAL_CONCURRENCY, PLAIN, SECURED)
            self._frames(pool, server, PLAIN, SECURED)

    def over_grpcio(self) -> None:
        """Measure Statecast over grpcio, where gRPC is most of the work."""
        models = write_models(self._models, plain_config())
        with serve(models, PLAIN, "grpc") as server, loading() as pool:
            self._started(server)
            self._steps(pool, server, GRPCIO)

    def many_sessions(self) -> None:
        """Measure a separate server with many sessions in Redis, and frames drawn from all of them."""
        count, name = self._sizes.sessions, "many"
        models = write_models(self._models, plain_config())
        with serve(models, PLAIN) as server, loading() as pool:
            self._started(server)
            empty, empty_redis = server.watched.memory_bytes(), _redis_memory(server)
            opened = pool.submit(sessions.populate, server.target, name, count).result()
            redis_bytes = (_redis_memory(server) - empty_redis) / count
            self._say(f"{count:,} sessions opened, {opened:,.0f} a second, {redis_bytes:,.0f} bytes of Redis each")
            for mode, population in ((WARM_MODE, 0), (COLD, count)):
                prefix = name if population else "warm"
                load = Frames(server.target, prefix, self._sizes.groups, FRAME_SESSIONS, PLAIN, population=population)
                self._load(pool, Key(OURS, mode, FRAME_SESSIONS), load, server.watched)
            self.findings.population = Population(count, opened, redis_bytes, empty, server.watched.memory_bytes())

    def _peer(self, name: str, start: Start) -> None:
        try:
            with start() as peer, loading() as pool:
                for concurrency in CONCURRENCIES:
                    self._load(pool, Key(name, UNARY, concurrency), peer.load(concurrency), peer.watched)
                if peer.stream:
                    self._load(pool, Key(name, STREAM, STREAMS), peer.stream_load(STREAMS), peer.watched)
        except PeerFailed as error:
            self.skip(name, str(error))

    def skip(self, name: str, why: str) -> None:
        """Record a measurement that is skipped, and the reason."""
        self.findings.skipped.append(f"{name}: {why}")
        self._say(f"{name} is SKIPPED: {why}")

    def _steps(self, pool: ProcessPoolExecutor, server: Serving, system: str) -> None:
        """Measure steps with the plain model in every mode."""
        for concurrency in CONCURRENCIES:
            self._unary(pool, server, concurrency, PLAIN, system)
        client = Client(server.target, "client", max(CONCURRENCIES), PLAIN)
        self._load(pool, Key(system, CLIENT, max(CONCURRENCIES)), client, server.watched)
        self._frames(pool, server, PLAIN, system)

    def _unary(
        self, pool: ProcessPoolExecutor, server: Serving, concurrency: int, model: str, system: str = OURS
    ) -> None:
        load = Unary(server.target, f"{model}-{concurrency}", concurrency, model, key=server.key)
        self._load(pool, Key(system, UNARY, concurrency, model), load, server.watched)

    def _frames(self, pool: ProcessPoolExecutor, server: Serving, model: str, system: str = OURS) -> None:
        groups = self._sizes.groups
        for mode, name in ((FRAMES, f"{model}-frames"), (OBSERVE, f"{model}-observe")):
            horizon = 0 if mode == OBSERVE else HORIZON
            load = Frames(server.target, name, groups, FRAME_SESSIONS, model, horizon, key=server.key)
            self._load(pool, Key(system, mode, FRAME_SESSIONS, model), load, server.watched)

    def _started(self, server: Serving) -> None:
        self.findings.start_seconds.append(server.start_seconds)
        self._say(f"{OURS} serves after {server.start_seconds:.1f} s")

    def _load(self, pool: ProcessPoolExecutor, key: Key, load: Load, watched: Watched) -> None:
        self._found(key, pool.submit(loads.run, load, self._pace, watched).result())

    def _found(self, key: Key, measured: Measured) -> None:
        self.findings.rows[key] = measured
        self._say(
            f"{key.system}, {key.model}, {key.mode} {key.concurrency}: {measured.rate:,.0f}/s, "
            f"p50 {measured.p50_ms:.2f} ms, server {measured.server_us:.1f} us, Redis {measured.redis_us:.1f} us"
        )


@contextmanager
def loading() -> Iterator[ProcessPoolExecutor]:
    """Run a separate process to make load in."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def _redis_memory(server: Serving) -> int:
    with redis.Redis.from_url(server.redis_url) as client:
        return int(cast("dict[str, Any]", client.info("memory"))["used_memory"])
