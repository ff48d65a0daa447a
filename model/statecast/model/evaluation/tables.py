"""Tables of a report for the terminal, with one row for each forecaster."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from .levels import SCORED_LEVELS, SHOWN_BANDS, nearest
from .report import Report, Row
from .scores import Scores


@dataclass(frozen=True)
class _Cell:
    """The text of a table cell, and the distance of its figure from a perfect one."""

    text: str
    distance: float


def summary_table(report: Report) -> Table:
    """Return a table of the main scores; bold marks the best one among forecasters with the model's windows."""
    first = report.rows[0].scores
    bands, band = nearest([each.stated for each in first.coverage], SHOWN_BANDS), _band(first)
    result = Table(header_style="bold", caption=_caption(report), caption_justify="left")
    result.add_column("forecaster")
    headings = [
        "SQL",
        "vs seasonal naive",
        "MASE",
        "WQL",
        "WAPE",
        "sum-MAPE",
        "sMAPE",
        *(f"{stated:.0%} band" for stated in bands),
    ]
    for heading in headings if band is None else [*headings, f"{band:.0%} band,\n2nd half"]:
        result.add_column(heading, justify="right")
    cells = [_cells(row, bands, band) for row in report.rows]
    like_first = [row.scores.windows == first.windows for row in report.rows]
    best = _best([each for each, is_alike in zip(cells, like_first, strict=True) if is_alike])
    for row, each, is_alike in zip(report.rows, cells, like_first, strict=True):
        shown = [
            f"[bold]{cell.text}[/]" if is_alike and cell.distance <= least else cell.text
            for cell, least in zip(each, best, strict=True)
        ]
        result.add_row(_label(report, row.scores), *shown)
    return result


def step_table(report: Report) -> Table:
    """Return a table of SQL and coverage of every forecaster at a few steps ahead."""
    chosen = some_steps(report.protocol.horizon)
    band = _band(report.rows[0].scores)
    result = Table(header_style="bold", title="by step ahead", title_justify="left")
    result.add_column("forecaster")
    result.add_column("")
    for step in chosen:
        result.add_column(str(step), justify="right")
    for row in report.rows:
        errors = [row.scores.sql_by_step[step - 1] for step in chosen]
        result.add_row(_label(report, row.scores), "SQL", *map(_number, errors))
        for each in row.scores.coverage:
            if each.stated == band:
                result.add_row("", f"{band:.0%} band", *(_share(each.by_step[step - 1]) for step in chosen))
    return result


def some_steps(horizon: int) -> list[int]:
    """Return the steps 1, 2, 5, 10, 20, 50 ... below the horizon, and the horizon."""
    ladder = [digit * 10**power for power in range(len(str(horizon))) for digit in (1, 2, 5)]
    return [step for step in ladder if step < horizon] + [horizon]


def _cells(row: Row, bands: Sequence[float], band: float | None) -> list[_Cell]:
    scores = row.scores
    errors = [scores.sql, row.relative(), scores.mase, scores.wql, scores.wape, scores.sum_mape, scores.smape]
    coverage = {each.stated: each for each in scores.coverage}
    shares = [(stated, coverage[stated].overall if stated in coverage else math.nan) for stated in bands]
    if band is not None:
        shares.append((band, coverage[band].second_half if band in coverage else math.nan))
    cells = [_Cell(_number(error), error) for error in errors]
    return cells + [_Cell(_share(share), abs(share - stated)) for stated, share in shares]


def _caption(report: Report) -> str:
    counts, protocol = report.counts, report.protocol
    said = (
        f"{counts.series} series, {protocol.windows} windows of {protocol.horizon} steps, {protocol.stride} apart, "
        f"season {protocol.season}; {counts.points:,} outcomes, {counts.missing_points:,} missing"
    )
    levels = report.rows[0].scores.levels
    if levels != SCORED_LEVELS:
        said += f"\nSQL and WQL are over the levels {', '.join(f'{level:g}' for level in levels)} only"
    if counts.unscaled_windows:
        said += (
            f"\nSQL and MASE leave out {counts.unscaled_windows} windows whose past does not move, "
            f"{counts.unscaled_series} series altogether"
        )
    return said


def _best(cells: Sequence[Sequence[_Cell]]) -> list[float]:
    """Return the smallest distance in each column."""
    known = [[cell.distance for cell in column if not math.isnan(cell.distance)] for column in zip(*cells, strict=True)]
    return [min(column, default=math.nan) for column in known]


def _label(report: Report, scores: Scores) -> str:
    if len(scores.windows) == report.protocol.windows:
        return escape(scores.name)
    return f"{escape(scores.name)} [dim]at {len(scores.windows)} of {report.protocol.windows} windows[/]"


def _band(scores: Scores) -> float | None:
    """Return the stated share of the band that is also shown by step and for the second half."""
    return next(iter(nearest([band.stated for band in scores.coverage], (0.8,))), None)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"
