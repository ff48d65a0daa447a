"""The targets of a run, and whether it reached them."""

import statistics
from dataclasses import dataclass

from .findings import Findings
from .loop import Measured
from .names import CATCH_UP, CLIENT, COLD, ECHO, FRAMES, GRPCIO, HANDWRITTEN, OBSERVE, SECURED, TRITON, UNARY
from .sizes import FRAME_SESSIONS


@dataclass(frozen=True)
class Target:
    """A measured number and its bound; `found` is None if it was not measured."""

    what: str
    found: float | None
    bound: float
    is_upper: bool

    @property
    def is_reached(self) -> bool | None:
        """Return whether the number keeps its bound; None if it was not measured."""
        if self.found is None:
            return None
        return self.found <= self.bound if self.is_upper else self.found >= self.bound


def targets(findings: Findings) -> list[Target]:
    """Return all targets, with the numbers found."""
    return [
        *_requests(findings), *_transports(findings), *_frames(findings), *_sessions(findings), *_alone(findings)
    ]  # fmt: skip


def _requests(findings: Findings) -> list[Target]:
    unary, triton = findings.ours(UNARY, 64), findings.of(TRITON, UNARY, 256)
    alone, triton_alone = findings.ours(UNARY, 1), findings.of(TRITON, UNARY, 1)
    client = findings.ours(CLIENT, 256)
    return [
        _at_most("unary 64: server CPU, of echo's", _cpu_ratio(unary, findings.of(ECHO, UNARY, 64)), 1.35),
        _at_most("unary 64: server CPU, of handwritten's", _cpu_ratio(unary, findings.of(HANDWRITTEN, UNARY, 64)), 0.4),
        _at_most(
            "unary 1: p50, of Triton's", alone.p50_ms / triton_alone.p50_ms if alone and triton_alone else None, 1.0
        ),
        _at_least("AsyncClient 256: answers/s, of Triton's at 256", _rate_ratio(client, triton), 2.0),
    ]


def _transports(findings: Findings) -> list[Target]:
    """Return the targets of Envoy beside Triton and grpcio, and of a server with TLS and authentication."""
    unary, many, alone = (findings.ours(UNARY, concurrency) for concurrency in (64, 256, 1))
    triton, triton_many = (findings.of(TRITON, UNARY, concurrency) for concurrency in (64, 256))
    grpcio_alone, grpcio_client = findings.of(GRPCIO, UNARY, 1), findings.of(GRPCIO, CLIENT, 256)
    frames, grpcio_frames = findings.ours(FRAMES, FRAME_SESSIONS), findings.of(GRPCIO, FRAMES, FRAME_SESSIONS)
    secured, secured_frames = findings.of(SECURED, UNARY, 64), findings.of(SECURED, FRAMES, FRAME_SESSIONS)
    p50_ratio = alone.p50_ms / grpcio_alone.p50_ms if alone and grpcio_alone else None
    client_ratio = _rate_ratio(findings.ours(CLIENT, 256), grpcio_client)
    return [
        _at_most("unary 64: server CPU, of Triton's", _cpu_ratio(unary, triton), 0.9),
        _at_least("unary 64: answers/s, of Triton's", _rate_ratio(unary, triton), 1.0),
        _at_least("unary 256: answers/s, of Triton's", _rate_ratio(many, triton_many), 1.1),
        _at_most("unary 1: p50, of that over grpcio", p50_ratio, 1.0),
        _at_least("AsyncClient 256: answers/s, of those over grpcio", client_ratio, 1.3),
        _at_most("frames of 256: server CPU, of that over grpcio", _cpu_ratio(frames, grpcio_frames), 1.0),
        _at_most("TLS and API key, unary 64: server CPU, of that without", _cpu_ratio(secured, unary), 1.1),
        _at_most("TLS and API key, frames: server CPU, of that without", _cpu_ratio(secured_frames, frames), 1.05),
    ]


def _frames(findings: Findings) -> list[Target]:
    frames, triton = findings.ours(FRAMES, FRAME_SESSIONS), findings.of(TRITON, UNARY, 256)
    observe = findings.ours(OBSERVE, FRAME_SESSIONS)
    return [
        _at_least(
            "frames of 256: how many times less server CPU than Triton's at 256", _cpu_ratio(triton, frames), 4.0
        ),
        _at_least("frames of 256: answers/s", frames.rate if frames else None, 20_000),
        _at_least("observe only: answers/s", observe.rate if observe else None, 25_000),
        _at_most("frames of 256: Redis CPU, us an observation", frames.redis_us if frames else None, 5.8),
        _at_most("frames of 256: append-only file, bytes an observation", frames.aof_bytes if frames else None, 141),
    ]


def _sessions(findings: Findings) -> list[Target]:
    """Return the targets of many sessions, which depend on their number; 10,000 of them are in memory."""
    population, cold = findings.population, findings.ours(COLD, FRAME_SESSIONS)
    half, million = (population if population and population.sessions == count else None for count in (20_000, 10**6))
    memory = million.server_bytes / 2**20 if million else None
    return [
        _at_least("frames of any of 20,000 sessions: answers/s", cold.rate if cold and half else None, 10_000),
        _at_most("1,000,000 sessions: memory of the server, MiB", memory, 396),
    ]


def _alone(findings: Findings) -> list[Target]:
    catch_up, history = findings.ours(CATCH_UP, 1), findings.history
    steps = history.steps if history else 1_000_000
    starts = statistics.median(findings.start_seconds) if findings.start_seconds else None
    return [
        _at_least("catch-up: observations/s", catch_up.rate if catch_up else None, 60_000),
        _at_most(f"server CPU at step {steps:,}, of that at step 10", history.ratio if history else None, 1.1),
        _at_most("start to SERVING, s", starts, 5.0),
    ]


def _at_most(what: str, found: float | None, bound: float) -> Target:
    return Target(what, found, bound, is_upper=True)


def _at_least(what: str, found: float | None, bound: float) -> Target:
    return Target(what, found, bound, is_upper=False)


def _cpu_ratio(one: Measured | None, other: Measured | None) -> float | None:
    return one.server_us / other.server_us if one and other else None


def _rate_ratio(one: Measured | None, other: Measured | None) -> float | None:
    return one.rate / other.rate if one and other else None
