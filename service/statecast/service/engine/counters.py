"""Counts the results of batches, and how many values lay inside the intervals forecast for them."""

import logging
import time
from collections.abc import Iterator, Sequence, Set
from math import isclose
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from statecast.service.engine.advance import Computed
from statecast.service.engine.plan import Answer, Plan
from statecast.service.engine.table import Table
from statecast.service.errors import NotFound, SessionRegressed
from statecast.service.metrics import Metrics
from statecast.service.models.registry import Model
from statecast.service.store.redis_store import Verdict

log = logging.getLogger(__name__)

TELL_SECONDS = 1.0


class Interval(NamedTuple):
    """The interval between two quantiles equally far from the median; `level` is its coverage in percent."""

    level: str
    low: float
    high: float


def intervals(levels: Sequence[float]) -> Iterator[Interval]:
    """Yield the intervals between a model's quantile levels, the widest first."""
    for low in levels:
        for high in levels:
            if low < high and isclose(low + high, 1.0):
                yield Interval(f"{100 * (high - low):.6g}", low, high)


class BatchCounters:
    """Counts sessions once Redis has their commit, so that nothing is counted twice."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counters: dict[Model, _Counters] = {}
        self._missing, self._told_at = 0, -TELL_SECONDS

    def count(self, table: Table) -> None:
        """Count what a batch did to the sessions whose commit is done."""
        rows = _done(table)
        done = set(rows)
        self._count_decisions([plan for row in rows if (plan := table.plans[row])])
        for row in done & table.moves.keys():
            session = table.sessions[row]
            if session is not None and table.is_moving(row):
                self._metrics.upgrades.labels(*session.standing.model.labels).inc()
        for computed in table.computed:
            model = computed.model
            if model not in self._counters:
                self._counters[model] = _Counters(self._metrics, model)
            self._counters[model].add(table, computed, done)

    def _count_decisions(self, plans: Sequence[Plan]) -> None:
        replayed = regressed = missing = 0
        for plan in plans:
            for decision in plan.decisions:
                if isinstance(decision, Answer):
                    replayed += decision.replayed
                else:
                    regressed += isinstance(decision, SessionRegressed)
                    missing += isinstance(decision, NotFound) and decision.was_seen
        self._metrics.replayed.inc(replayed)
        self._metrics.regressed.inc(regressed)
        self._count_missing(missing)

    def _count_missing(self, missing: int) -> None:
        """Count sessions of which Redis has no trace, and log them about once a second."""
        self._metrics.sessions_missing.inc(missing)
        self._missing += missing
        now = time.monotonic()
        if self._missing and now >= self._told_at + TELL_SECONDS:
            log.warning(
                "%d requests named sessions that their callers have seen, but of which Redis has no trace: it lost "
                "them, or they expired long ago",
                self._missing,
            )
            self._missing, self._told_at = 0, now


def _done(table: Table) -> list[int]:
    return [row for row in table.rows if table.verdicts[row] is Verdict.DONE]


class _Counters:
    """The counters of one model, looked up once."""

    def __init__(self, metrics: Metrics, model: Model) -> None:
        labels = model.labels
        self._observations = metrics.observations.labels(*labels)
        self._forecasts = metrics.forecasts.labels(*labels)
        self._opened = metrics.sessions_opened.labels(*labels)
        counters = metrics.interval_observations
        self._intervals = [
            (each, counters.labels(*labels, each.level, "true"), counters.labels(*labels, each.level, "false"))
            for each in intervals(model.config.quantile_levels)
        ]

    def add(self, table: Table, computed: Computed, done: Set[int]) -> None:
        """Count what was computed for the rows whose commit is done."""
        indices = [index for index, row in enumerate(computed.rows) if row in done]
        is_all = len(indices) == len(computed.rows)
        rows = computed.rows if is_all else [computed.rows[index] for index in indices]
        forecasts = len(computed.forecasts)
        if not is_all:
            forecasts = sum(computed.rows[index] in done for index, _ in computed.forecasts)
        self._observations.inc(sum([table.steps[row] for row in rows]))
        self._forecasts.inc(forecasts)
        self._opened.inc(sum([plan is not None and plan.opened for plan in [table.plans[row] for row in rows]]))
        if computed.pit.size and self._intervals and rows:
            self._count_intervals(computed.pit if is_all else computed.pit[indices])

    def _count_intervals(self, pit: NDArray[np.float64]) -> None:
        pit = pit[~np.isnan(pit)]  # missing values have none, nor has padding
        if not pit.size:
            return
        for (_, low, high), inside, outside in self._intervals:
            count = int(np.count_nonzero((low <= pit) & (pit <= high)))
            inside.inc(count)
            outside.inc(pit.size - count)
