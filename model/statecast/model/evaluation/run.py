"""Evaluate a model and the baselines on a panel."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..contract import StreamingModel, usual_horizon
from ..data.panel import Panel
from ..data.seasons import USUAL_SEASON, season_lags
from ..errors import ConfigError
from ..files import CONFIG_FILE, bundled_models, load_model
from ..versions import version_order
from .baselines import auto_ets, last_value, seasonal_naive
from .levels import baseline_levels
from .pictures import draw_fans, draw_reliability, draw_steps
from .report import Report
from .rolling import Cutoffs, begins_of, cutoffs_of, is_seen, roll, truths_of
from .rows import Rows
from .scores import Outcomes
from .windows import EvaluationError, Forecasts, Protocol

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """The settings of an evaluation; see `Protocol` for those that it shares.

    Attributes:
        horizon: How many steps ahead to forecast; None for the model's usual number.
        windows: How many forecasts to make of each series.
        step: Steps from one cut-off to the next; None for the horizon.
        first_cutoff: Rows before the first cut-off; None lets the last window end with the series.
        seasons: Steps in each season of the seasonal naive forecasts, the first of them for the scale of scores; empty
            for the shortest season of the data's frequency, or else the model's first lag.
        auto_ets: Whether AutoETS is among the baselines.
        begins: Share of rows, or time, at which the first cut-off lies; None for `first_cutoff`.
    """

    horizon: int | None = None
    windows: int = 10
    step: int | None = None
    first_cutoff: int | None = None
    seasons: tuple[int, ...] = ()
    auto_ets: bool = False
    begins: float | str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        panel: The series.
        outcomes: The outcomes after the cut-offs.
        forecasts: The forecasts of every forecaster, the model's first.
        report: The scores of the forecasts.
        left_out: How many series were too short, or lacked a target's values before the first cut-off.
    """

    panel: Panel
    outcomes: Outcomes
    forecasts: tuple[Forecasts, ...]
    report: Report
    left_out: int = 0

    @property
    def rows(self) -> Rows:
        """All forecasts beside their outcomes, as rows of a long table."""
        return Rows.of(self.panel, self.outcomes, self.forecasts)

    def write(self, folder: Path) -> None:
        """Write report.json, fans.png, reliability.png and steps.png to a folder, which is created if necessary."""
        folder.mkdir(parents=True, exist_ok=True)
        self.report.write(folder / "report.json")
        draw_fans(folder / "fans.png", self.outcomes, self.report, self.forecasts)
        draw_reliability(folder / "reliability.png", self.report)
        draw_steps(folder / "steps.png", self.report)


def find_model(model: str, models: Path) -> StreamingModel:
    """Load a model by its folder, or by name or name:version from a folder of models or the bundled ones.

    Raises:
        ConfigError: There is no such model, or its configuration is wrong.
        WeightsError: Its weights cannot be loaded.
    """
    if (Path(model) / CONFIG_FILE).is_file():
        return load_model(Path(model))
    name, _, version = model.partition(":")
    for folder in (models, bundled_models()):
        versions = sorted((folder / name).glob(f"*/{CONFIG_FILE}"), key=lambda path: version_order(path.parent.name))
        chosen = [path.parent for path in versions if version in ("", path.parent.name)]
        if chosen:
            return load_model(chosen[-1])
    raise ConfigError(f"model: there is no {model!r} in {models}, nor is it a model's folder or a bundled model")


def _season(panel: Panel, lags: Sequence[int]) -> int:
    """Return the shortest season of the data's frequency, or else the model's shortest lag, or else a default."""
    seasons = season_lags(panel) if panel.frequency else ()
    return next(iter((*seasons, *lags)), USUAL_SEASON)


def evaluate_model(
    model: StreamingModel, panel: Panel, request: Request, progress: Progress = lambda *_: None
) -> Evaluation:
    """Stream the panel through the model and score its forecasts.

    Series that are too short for all windows, or have no value of a target before the first one, are left out.

    Raises:
        DataError: The request begins at a time, and the panel has none.
        EvaluationError: Model, data and request do not fit together.
    """
    config = model.config
    protocol = Protocol(
        horizon=request.horizon or usual_horizon(config),
        season=next(iter(request.seasons), None) or _season(panel, getattr(config, "lags", ())),
        windows=request.windows,
        step=request.step,
        first_cutoff=request.first_cutoff,
        begins=request.begins,
    )
    begins = begins_of(panel, protocol)
    long = [(each, begin) for each, begin in zip(panel.series, begins, strict=True) if protocol.fits(each.rows, begin)]
    if not long:
        raise _too_short(protocol)
    firsts = [int(protocol.cutoffs(series.rows, begin)[0]) for series, begin in long]
    seen = tuple(
        series for (series, _), first in zip(long, firsts, strict=True) if is_seen(series, panel.targets, first)
    )
    if not seen:
        raise EvaluationError(
            "no series has values of every target before the first cut-off; choose a later one (--first-cutoff)"
        )
    chosen = replace(panel, series=seen)
    done = evaluate_at(model, chosen, protocol, cutoffs_of(chosen, protocol), progress)
    done = _with_seasons(done, dict.fromkeys(request.seasons[1:]))
    if request.auto_ets:
        done = _with_auto_ets(done, progress)
    return replace(done, left_out=len(panel.series) - len(seen))


def _too_short(protocol: Protocol) -> EvaluationError:
    if protocol.begins is None:
        needs = f"the {protocol.shortest} rows that {protocol.windows} windows need"
    else:
        begins = protocol.begins if isinstance(protocol.begins, str) else f"{protocol.begins:.0%}"
        needs = f"a row before {begins} and the {protocol.span} rows after it that {protocol.windows} windows need"
    return EvaluationError(f"no series has {needs}; choose fewer --windows, or a smaller --step or --horizon")


def evaluate_at(
    model: StreamingModel, panel: Panel, protocol: Protocol, cutoffs: Cutoffs, progress: Progress = lambda *_: None
) -> Evaluation:
    """Score a model's forecasts at given cut-offs of each series.

    Args:
        model: The model to evaluate.
        panel: The series, each with a value of every target before its first cut-off.
        protocol: The number of cut-offs, the horizon and the season.
        cutoffs: The cut-offs of each series.
        progress: Called with a label, the number of series done and the total.

    Raises:
        EvaluationError: Model, data and protocol do not fit together, or there is no outcome after any cut-off.
    """
    truths = truths_of(panel, cutoffs)
    outcomes = Outcomes.of(truths, protocol)
    if np.isnan(outcomes.values).all():
        raise EvaluationError(
            f"no series has a value of a target in the {protocol.horizon} steps after a cut-off, so nothing can be "
            "scored; choose an earlier first cut-off, or read the data only up to where they end (--until)"
        )
    told = lambda done, of: progress("series streamed", done, of)  # noqa: E731
    rolled = roll(model, panel, cutoffs, protocol.horizon, progress=told)
    levels = baseline_levels(rolled.levels)
    forecasts = (rolled, seasonal_naive(truths, protocol, levels), last_value(truths, protocol, levels))
    return Evaluation(panel, outcomes, forecasts, Report.of(outcomes, forecasts))


def compared(done: Evaluation, others: Sequence[Forecasts]) -> Evaluation:
    """Add other forecasts of the same outcomes to an evaluation."""
    forecasts = (*done.forecasts, *others)
    return replace(done, forecasts=forecasts, report=Report.of(done.outcomes, forecasts))


def _with_seasons(done: Evaluation, seasons: Iterable[int]) -> Evaluation:
    """Add the seasonal naive forecasts of further seasons."""
    outcomes, levels = done.outcomes, baseline_levels(done.forecasts[0].levels)
    others = []
    for season in seasons:
        naive = seasonal_naive(outcomes.truths, replace(outcomes.protocol, season=season), levels)
        others.append(replace(naive, name=f"{naive.name} {season}"))
    return compared(done, others) if others else done


def _with_auto_ets(done: Evaluation, progress: Progress) -> Evaluation:
    told = lambda done, of: progress("AutoETS fits", done, of)  # noqa: E731
    outcomes, levels = done.outcomes, baseline_levels(done.forecasts[0].levels)
    return compared(done, [auto_ets(outcomes.truths, outcomes.protocol, levels, progress=told)])
