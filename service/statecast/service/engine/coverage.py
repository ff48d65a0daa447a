"""How often what came lay inside the intervals that had been forecast for it."""

from collections.abc import Iterable, Iterator, Sequence
from math import isclose
from typing import NamedTuple

import numpy as np

from statecast.service.engine.advance import Advanced
from statecast.service.metrics import Metrics
from statecast.service.registry import Model


class Interval(NamedTuple):
    """What lies between two quantiles equally far from the median: `level` percent of what comes, if all is well."""

    level: str
    low: float
    high: float


def intervals(levels: Sequence[float]) -> Iterator[Interval]:
    """The intervals between the levels of a model, the widest first."""
    for low in levels:
        for high in levels:
            if low < high and isclose(low + high, 1.0):
                yield Interval(f"{100 * (high - low):.6g}", low, high)


def count_coverage(metrics: Metrics, committed: Iterable[Advanced]) -> None:
    """Count the new values of sessions, of which Redis must have them all, so that none is ever counted twice."""
    by_model: dict[str, tuple[Model, list[Advanced]]] = {}
    for each in committed:
        by_model.setdefault(each.model.digest, (each.model, []))[1].append(each)
    for model, sessions in by_model.values():
        pit = np.concatenate([each.pit.ravel() for each in sessions])
        pit = pit[~np.isnan(pit)]
        if not pit.size:
            continue
        for level, low, high in intervals(model.config.quantile_levels):
            inside = int(np.count_nonzero((low <= pit) & (pit <= high)))
            for label, count in (("true", inside), ("false", pit.size - inside)):
                metrics.interval_observations.labels(*model.labels, level, label).inc(count)
