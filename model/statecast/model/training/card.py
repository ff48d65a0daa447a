"""Descriptions of a trained model: metrics.json and a model card."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isclose, isfinite
from typing import Any

from ..config import ModelConfig
from ..data.panel import Panel
from ..evaluation.report import Report
from .module import Recipe
from .train import Trained

CARD_FILE = "README.md"
# The name of the bundled model in tables of scores.
BUNDLED_NAME = "bundled base"
_CARD = """# {name} version {version}

A streaming {cell} forecaster of {targets} for Statecast. It forecasts up to {horizon} steps{frequency} ahead.

## Training data
{series} series, {rows:,} rows{period}.
{findings}
## Training
{layers} x {hidden_size} {cell}; lags {lags}; calendar: {calendar}; covariates: {covariates}; categories: {categories}.
{updates} updates{began} in {minutes:.1f} minutes; the weights after update {best_update} are kept.
Intervals {adapt}.

## Validation
{validation}
## Limits
The model was trained on the series above. It also forecasts other series, but those forecasts were not evaluated.
Values unlike those in the training data, new seasons or a longer horizon need another training.
"""
_COLUMNS = ("sql", "mase", "wql")


def metrics_of(panel: Panel, recipe: Recipe, trained: Trained, report: Report | None, refitted: bool) -> dict[str, Any]:
    """Return the content of metrics.json."""
    training = {
        **asdict(recipe),
        "series": len(panel.series),
        "rows": panel.rows,
        "best_update": trained.best_update,
        "updates_made": trained.updates,
        "took_seconds": round(trained.took_seconds),
        "refitted_on_all_rows": refitted,
        "began_with": trained.began_with,
    }
    return {"training": training, "validation": report.to_dict() if report else None}


def card_of(
    config: ModelConfig, panel: Panel, trained: Trained, report: Report | None, period: str, *, refitted: bool = False
) -> str:
    """Return the model card in Markdown."""
    found = "".join(f"- {line}\n" for line in panel.findings.lines())
    return _CARD.format(
        name=config.name,
        version=config.version,
        cell=config.cell.upper(),
        targets=", ".join(config.targets),
        horizon=config.horizon,
        frequency=f" of {config.frequency}" if config.frequency else "",
        series=len(panel.series),
        rows=panel.rows,
        period=period,
        findings=f"\nFound in the data:\n\n{found}" if found else "",
        layers=config.layers,
        hidden_size=config.hidden_size,
        lags=_listed([str(lag) for lag in config.lags]),
        calendar=_listed(config.calendar),
        covariates=_listed(config.covariates),
        categories=_listed([category.name for category in config.categories]),
        updates=trained.updates,
        began=f" from the weights of {trained.began_with}" if trained.began_with else "",
        minutes=trained.took_seconds / 60,
        best_update=trained.best_update,
        adapt="adapt online, session by session" if config.adaptation_rate else "stay as the model emits them",
        validation=_validation(report, refitted),
    )


def _validation(report: Report | None, refitted: bool) -> str:
    if report is None:
        return "Not validated: no rows were held back.\n"
    protocol = report.protocol
    lines = [
        f"On rows held back from training: {protocol.windows} windows of {protocol.horizon} steps, {protocol.stride} "
        f"apart, season {protocol.season}.\n",
        "| | SQL | MASE | WQL | 80 % band holds |",
        "|---|---|---|---|---|",
    ]
    for row in report.rows:
        figures = " | ".join(_figure(getattr(row.scores, name)) for name in _COLUMNS)
        band = [f"{each.overall:.1%}" for each in row.scores.coverage if isclose(each.stated, 0.8)]
        lines.append(f"| {row.scores.name} | {figures} | {_listed(band)} |")
    if refitted:
        lines += ["", "After this validation, the model was trained once more on all rows: these are its weights."]
    if said := verdict(report):
        lines += ["", said]
    return "\n".join(lines) + "\n"


def verdict(report: Report) -> str:
    """Return advice that names other forecasters with an SQL no higher than the model's; empty if there are none."""
    model, *others = (row.scores for row in report.rows)
    better = [f"{each.name} ({each.sql:.3f})" for each in others if each.sql <= model.sql]
    if not better:
        return ""
    best = min(others, key=lambda each: each.sql).name
    advice = "serve base instead, or train" if best == BUNDLED_NAME else "train"
    return (
        f"{model.name} (SQL {model.sql:.3f}) does not beat {' and '.join(better)} on the rows held back; {advice} on "
        "more rows or for more updates"
    )


def _figure(score: float) -> str:
    return f"{score:.3f}" if isfinite(score) else "-"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
