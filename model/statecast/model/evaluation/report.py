"""The report of an evaluation: the scores of every forecaster, also as JSON."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .baselines import SEASONAL_NAIVE
from .scores import Outcomes, Scores, score
from .windows import EvaluationError, Forecasts, Protocol

JSON_FORMAT = 1
_ERRORS = ("sql", "mase", "wql", "wape", "sum_mape", "smape", "mae")


@dataclass(frozen=True)
class Counts:
    """The size of an evaluation.

    Attributes:
        series: The number of pairs of series and target.
        points: Observed outcomes in all windows.
        missing_points: Missing outcomes, which do not count.
        unscaled_windows: Pairs of series and window whose past has no seasonal error, or one of 0; SQL and MASE leave
            them out.
        unscaled_series: Series of which SQL and MASE leave out every window.
    """

    series: int
    points: int
    missing_points: int
    unscaled_windows: int
    unscaled_series: int

    @classmethod
    def of(cls, outcomes: Outcomes) -> "Counts":
        """Count series, outcomes and windows."""
        missing, unscaled = int(np.isnan(outcomes.values).sum()), np.isnan(outcomes.scales)
        points = outcomes.values.size - missing
        return cls(len(outcomes.truths), points, missing, int(unscaled.sum()), int(unscaled.all(axis=1).sum()))


@dataclass(frozen=True)
class Row:
    """One forecaster in a report.

    Attributes:
        scores: The forecaster's scores.
        reference: The scores of seasonal naive at the same windows.
    """

    scores: Scores
    reference: Scores

    def relative(self, error: str = "sql") -> float:
        """Return an error divided by that of seasonal naive at the same windows; NaN if that is 0. Lower is better."""
        below = float(getattr(self.reference, error))
        return float(getattr(self.scores, error)) / below if below else math.nan


@dataclass(frozen=True)
class Report:
    """The scores of every forecaster, the model's first.

    Attributes:
        protocol: The cut-offs and the horizon.
        counts: The size of the evaluation.
        rows: One row for each forecaster.
    """

    protocol: Protocol
    counts: Counts
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, outcomes: Outcomes, forecasts: Sequence[Forecasts]) -> "Report":
        """Score every forecaster, the model first; one of them must be seasonal naive.

        Raises:
            EvaluationError: Seasonal naive is missing, or has no forecast at a window of another forecaster; or two
                forecasters have the same name, or their scored levels differ.
        """
        by_name = {each.name: each for each in forecasts}
        if SEASONAL_NAIVE not in by_name:
            raise EvaluationError(f"{SEASONAL_NAIVE} has to be among the forecasters")
        if len(by_name) < len(forecasts):
            raise EvaluationError(f"two forecasters have one name: {[each.name for each in forecasts]}")
        scores = [score(outcomes, each) for each in forecasts]
        for each in scores:
            if each.levels != scores[0].levels:
                raise EvaluationError(
                    f"{each.name} is scored at {list(each.levels)}, {scores[0].name} at {list(scores[0].levels)}"
                )
        naive = by_name[SEASONAL_NAIVE]
        references = {each.windows: score(outcomes, naive.at(each.windows)) for each in scores}
        rows = tuple(Row(each, references[each.windows]) for each in scores)
        return cls(outcomes.protocol, Counts.of(outcomes), rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values that JSON can hold, with null for NaN."""
        result: dict[str, Any] = _plain(
            {
                "format": JSON_FORMAT,
                "protocol": {
                    **{key: value for key, value in asdict(self.protocol).items() if key != "begins"},
                    "first_cutoff": self.protocol.begins or self.protocol.first_cutoff,
                    "step": self.protocol.stride,
                    "levels": self.rows[0].scores.levels,
                },
                "counts": asdict(self.counts),
                "forecasters": [_forecaster(row) for row in self.rows],
            }
        )
        return result

    def write(self, path: Path) -> None:
        """Write the report as JSON, atomically.

        Raises:
            OSError: The file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def _forecaster(row: Row) -> dict[str, Any]:
    scores = asdict(row.scores)
    del scores["levels"]
    scores["relative_to_seasonal_naive"] = {error: row.relative(error) for error in _ERRORS}
    scores["observed_share"] = [{"level": level, "share": share} for level, share in row.scores.observed_share.items()]
    return scores


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: lists for arrays and tuples, null for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
