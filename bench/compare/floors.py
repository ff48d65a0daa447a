"""The floors of a server's cost: its commits, its matrix products and its LSTM, each alone on one thread."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Commit, Operation, Store, Verdict

from .servers import private_redis, watch
from .sizes import FRAME_SESSIONS

HIDDEN, LAYERS = 128, 2
ENTRY_BYTES, STAMP_BYTES = 50, 16
LIFETIME_MS, TRACE_MS = 31 * 86_400_000, 86_400_000


@dataclass(frozen=True)
class CommitFloor:
    """The cost of Statecast's commit script, in microseconds and bytes a session.

    Attributes:
        client_us: CPU of the process that commits.
        redis_us: CPU of Redis.
        elapsed_us: Time from the call to the reply.
        aof_bytes: Bytes that Redis wrote to its append-only file.
    """

    client_us: float
    redis_us: float
    elapsed_us: float
    aof_bytes: float


def commit_alone(seconds: float, sessions: int = FRAME_SESSIONS) -> CommitFloor:
    """Measure a script call that appends `ENTRY_BYTES` to each of `sessions`, repeated for `seconds`.

    Raises:
        RuntimeError: If a commit was refused.
    """
    with private_redis() as embedded:
        watched = watch(os.getpid(), embedded)
        client = connect(embedded.url, 10.0)
        store = Store(client, "floor")
        rounds = 0
        expected = _commit_round(store, sessions, b"", Operation.REPLACE)
        before = watched.read()
        while time.perf_counter() < before.at + seconds:
            expected = _commit_round(store, sessions, expected, Operation.APPEND)
            rounds += 1
        after = watched.read()
        client.close()
    count = rounds * sessions
    return CommitFloor(
        client_us=1e6 * (after.client_seconds - before.client_seconds) / count,
        redis_us=1e6 * (after.redis_seconds - before.redis_seconds) / count,
        elapsed_us=1e6 * (after.at - before.at) / count,
        aof_bytes=(after.aof_bytes - before.aof_bytes) / count,
    )


def _commit_round(store: Store, sessions: int, expected: bytes, operation: Operation) -> bytes:
    """Commit once for every session, and return the stamp that all of them have afterwards."""
    stamp = os.urandom(STAMP_BYTES)
    payload = bytes(ENTRY_BYTES - STAMP_BYTES) + stamp
    names = [f"s-{number}" for number in range(sessions)]
    commits = [Commit(name, operation, expected, payload, LIFETIME_MS, TRACE_MS) for name in names]
    if set(store.commit(commits).values()) != {Verdict.DONE}:
        raise RuntimeError("a commit was refused")
    return stamp


def matrix_products(batch: int, seconds: float) -> float:
    """Return the CPU time of an LSTM step's two matrix products, in microseconds a session.

    Each product multiplies inputs and hidden states side by side.
    """
    torch.set_num_threads(1)
    widths = (1 + HIDDEN, 2 * HIDDEN)
    inputs = [torch.randn(batch, width) for width in widths]
    weights = [torch.randn(width, 4 * HIDDEN) for width in widths]
    biases = [torch.randn(4 * HIDDEN) for _ in widths]

    def step() -> None:
        for each in zip(biases, inputs, weights, strict=True):
            torch.addmm(*each)

    with torch.inference_mode():
        return _cpu_us(step, seconds) / batch


def lstm_alone(batch: int, steps: int, seconds: float) -> float:
    """Return the rate of torch.nn.LSTM in observations a second, with `batch` series of `steps` steps at once."""
    torch.set_num_threads(1)
    lstm = torch.nn.LSTM(1, HIDDEN, LAYERS, batch_first=True).eval()
    values = torch.randn(batch, steps, 1)
    with torch.inference_mode():
        return 1e6 * batch * steps / _cpu_us(lambda: lstm(values), seconds)


def _cpu_us(work: Callable[[], object], seconds: float) -> float:
    """Repeat `work` for `seconds` of CPU time, and return the CPU time of one run in microseconds."""
    work()
    count, started = 0, time.process_time()
    while (taken := time.process_time() - started) < seconds:
        work()
        count += 1
    return 1e6 * taken / count
