"""Power failures: Redis comes back without the writes that it had not synced to disk."""

import os
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.callers import Load
from torture.cluster import SERVERS, Setting, Stage
from torture.load import Report, under_load

UNSYNCED_SECONDS = 1.0
"""Seconds of writes that `appendfsync everysec` may lose."""
SAMPLE_SECONDS = 0.02


def power_lost(count: int, load: Load) -> Report:
    """Kill Redis, and truncate its append-only file by up to its last second."""
    dice = random.Random(load.seed)

    def inject(stage: Stage) -> tuple[int, str]:
        lost = 0
        time.sleep(2.0)  # wait until all sessions are synced; losing a whole session is another fault
        for _ in range(count):
            with _sizes(stage.folder) as sizes:
                time.sleep(dice.uniform(UNSYNCED_SECONDS, 2.0))
                stage.redis.kill()
                killed = time.monotonic()
            since = killed - dice.uniform(0.0, UNSYNCED_SECONDS)
            file, size = next((file, size) for at, file, size in sizes if at >= since)
            lost += file.stat().st_size - size
            os.truncate(file, size)
            stage.redis.start()
        time.sleep(UNSYNCED_SECONDS)
        noticed = sum(stage.counter(number, "regressed") for number in range(SERVERS))
        assert noticed, "no request met a session that had lost anything, so this proves nothing"
        return count, f"{lost:,} bytes lost, {noticed:,.0f} requests met a session that had regressed"

    return under_load(inject, load, Setting(appendfsync="everysec"))


@contextmanager
def _sizes(folder: Path) -> Iterator[deque[tuple[float, Path, int]]]:
    """Record the size of the append-only file repeatedly until the block ends."""
    samples: deque[tuple[float, Path, int]] = deque()
    done = threading.Event()

    def sample() -> None:
        while True:
            file = max(folder.rglob("*.aof"), key=lambda each: each.stat().st_mtime)
            samples.append((time.monotonic(), file, file.stat().st_size))
            if done.wait(SAMPLE_SECONDS):
                samples.append((float("inf"), file, file.stat().st_size))
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
