"""What no server can fall below: its commits, its matrix products, and its LSTM, each alone on one thread."""

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
    """What the project's own commit script costs, microseconds and bytes a session.

    Attributes:
        client_us: CPU of the process that commits.
        redis_us: CPU of Redis.
        elapsed_us: From the call to the reply.
        aof_bytes: What Redis wrote to its append-only file.
    """

    client_us: float
    redis_us: float
    elapsed_us: float
    aof_bytes: float


def commit_alone(seconds: float, sessions: int = FRAME_SESSIONS) -> CommitFloor:
    """Appends `ENTRY_BYTES` to each of so many sessions in one script call, again and again for so many seconds.

    Raises:
        RuntimeError: if a commit was refused.
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
    """One commit for every session; the stamp that all of them have afterwards."""
    stamp = os.urandom(STAMP_BYTES)
    payload = bytes(ENTRY_BYTES - STAMP_BYTES) + stamp
    names = [f"s-{number}" for number in range(sessions)]
    commits = [Commit(name, operation, expected, payload, LIFETIME_MS, TRACE_MS) for name in names]
    if set(store.commit(commits).values()) != {Verdict.DONE}:
        raise RuntimeError("a commit was refused")
    return stamp


def matrix_products(batch: int, seconds: float) -> float:
    """CPU of an LSTM step's two matrix products, inputs and hidden states side by side, in microseconds a session."""
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
    """What torch.nn.LSTM takes in a second, in observations, with so many series of so many steps at once."""
    torch.set_num_threads(1)
    lstm = torch.nn.LSTM(1, HIDDEN, LAYERS, batch_first=True).eval()
    values = torch.randn(batch, steps, 1)
    with torch.inference_mode():
        return 1e6 * batch * steps / _cpu_us(lambda: lstm(values), seconds)


def _cpu_us(work: Callable[[], object], seconds: float) -> float:
    """CPU of one piece of work, in microseconds, from as many as so many seconds hold."""
    work()
    count, started = 0, time.process_time()
    while (taken := time.process_time() - started) < seconds:
        work()
        count += 1
    return 1e6 * taken / count
