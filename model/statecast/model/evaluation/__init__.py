"""Evaluation of forecasts: cut-offs, scores, baselines and the report."""

from .baselines import (
    AUTO_ETS,
    CONTEXT_STEPS,
    LAST_VALUE,
    SEASONAL_NAIVE,
    auto_ets,
    has_auto_ets,
    last_value,
    seasonal_naive,
)
from .levels import SCORED_LEVELS, baseline_levels, scored_levels
from .pictures import draw_fans, draw_reliability, draw_steps
from .report import Counts, Report, Row
from .scores import Coverage, Outcomes, Scores, SeriesScore, score
from .tables import step_table, summary_table
from .windows import EvaluationError, Forecasts, Protocol, Truth

__all__ = [
    "AUTO_ETS",
    "CONTEXT_STEPS",
    "LAST_VALUE",
    "SCORED_LEVELS",
    "SEASONAL_NAIVE",
    "Counts",
    "Coverage",
    "EvaluationError",
    "Forecasts",
    "Outcomes",
    "Protocol",
    "Report",
    "Row",
    "Scores",
    "SeriesScore",
    "Truth",
    "auto_ets",
    "baseline_levels",
    "draw_fans",
    "draw_reliability",
    "draw_steps",
    "has_auto_ets",
    "last_value",
    "score",
    "scored_levels",
    "seasonal_naive",
    "step_table",
    "summary_table",
]
