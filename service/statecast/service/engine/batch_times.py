"""Measures the phases of batches, for the metrics and for traces."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from statecast.service.metrics import Metrics


class Phase(NamedTuple):
    """A part of a batch's time, by time.monotonic."""

    name: str
    start: float
    end: float


class BatchTimes:
    """Times of one engine's batches. Not thread-safe."""

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = {
            "load": metrics.load_seconds,
            "advance": metrics.advance_seconds,
            "commit": metrics.commit_seconds,
        }
        self.phases: list[Phase] = []
        """Those of the newest batch in order; each comes again for another attempt at sessions in conflict."""

    def begin(self) -> None:
        """Begin another batch; the phases of the last one stay with whoever has them."""
        self.phases = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as this phase, even if it fails."""
        start = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            self._seconds[name].observe(end - start)
            self.phases.append(Phase(name, start, end))
