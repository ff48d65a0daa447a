"""What came of an evaluation: every forecaster's scores side by side, and as JSON."""

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
_ERRORS = ("sql", "mase", "wql", "wape", "mae")


@dataclass(frozen=True)
class Counts:
    """What the scores are over.

    Attributes:
        series: Pairs of series and target.
        points: Outcomes that were observed, over all windows.
        missing_points: Outcomes that were missing, which do not count.
        unscaled_windows: Pairs of series and window whose past has no seasonal error or one of 0; SQL and MASE leave
            them out.
        unscaled_series: Series that SQL and MASE leave out altogether.
    """

    series: int
    points: int
    missing_points: int
    unscaled_windows: int
    unscaled_series: int

    @classmethod
    def of(cls, outcomes: Outcomes) -> "Counts":
        """Counts them."""
        missing, unscaled = int(np.isnan(outcomes.values).sum()), np.isnan(outcomes.scales)
        points = outcomes.values.size - missing
        return cls(len(outcomes.truths), points, missing, int(unscaled.sum()), int(unscaled.all(axis=1).sum()))


@dataclass(frozen=True)
class Row:
    """One forecaster in a report.

    Attributes:
        scores: Its own.
        reference: Those of seasonal naive at the same windows.
    """

    scores: Scores
    reference: Scores

    def relative(self, error: str = "sql") -> float:
        """An error over that of seasonal naive at the same windows; NaN if that is 0. Below 1 is better."""
        below = float(getattr(self.reference, error))
        return float(getattr(self.scores, error)) / below if below else math.nan


@dataclass(frozen=True)
class Report:
    """Every forecaster's scores, the model's first.

    Attributes:
        protocol: When forecasts were made and how far ahead.
        counts: What the scores are over.
        rows: One for each forecaster.
    """

    protocol: Protocol
    counts: Counts
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, outcomes: Outcomes, forecasts: Sequence[Forecasts]) -> "Report":
        """Scores every forecaster, the model first; seasonal naive has to be among them.

        Raises:
            EvaluationError: It is not, it was not asked at a window of another one, two have one name, or their
                levels do not allow to score them alike.
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
        """Returns all of it as JSON has it, with null where there is no number."""
        result: dict[str, Any] = _plain(
            {
                "format": JSON_FORMAT,
                "protocol": {
                    **asdict(self.protocol),
                    "step": self.protocol.stride,
                    "levels": self.rows[0].scores.levels,
                },
                "counts": asdict(self.counts),
                "forecasters": [_forecaster(row) for row in self.rows],
            }
        )
        return result

    def write(self, path: Path) -> None:
        """Writes all of it as JSON; whoever reads the file meanwhile finds the old one or the new one, whole.

        Raises:
            OSError: It cannot be written.
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
    """What JSON can hold: lists for arrays and tuples, null for NaN."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
