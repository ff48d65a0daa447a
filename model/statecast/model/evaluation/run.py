"""Evaluates a model on a panel, beside the baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..contract import StreamingModel
from ..data.panel import Panel
from ..data.seasons import USUAL_SEASON, season_lags
from ..errors import ConfigError
from ..files import CONFIG_FILE, bundled_models, load_model, version_order
from .baselines import auto_ets, last_value, seasonal_naive
from .levels import baseline_levels
from .pictures import draw_fans, draw_reliability, draw_steps
from .report import Report
from .rolling import Cutoffs, cutoffs_of, is_seen, roll, truths_of
from .scores import Outcomes
from .windows import EvaluationError, Forecasts, Protocol

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What to evaluate; None leaves it to the model. See `Protocol`.

    Attributes:
        horizon: Steps ahead.
        windows: Forecasts of each series.
        step: Steps from one cut-off to the next.
        first_cutoff: Rows seen at the first cut-off.
        season: Steps in a season.
        auto_ets: Whether AutoETS is among the baselines.
    """

    horizon: int | None = None
    windows: int = 10
    step: int | None = None
    first_cutoff: int | None = None
    season: int | None = None
    auto_ets: bool = False


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        outcomes: What came after the cut-offs.
        forecasts: Everyone's, the model's first.
        report: Their scores.
        left_out: How many series are too short for all windows, or have nothing before the first one.
    """

    outcomes: Outcomes
    forecasts: tuple[Forecasts, ...]
    report: Report
    left_out: int = 0

    def write(self, folder: Path) -> None:
        """Writes report.json, fans.png, reliability.png and steps.png to a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        self.report.write(folder / "report.json")
        draw_fans(folder / "fans.png", self.outcomes, self.report, self.forecasts)
        draw_reliability(folder / "reliability.png", self.report)
        draw_steps(folder / "steps.png", self.report)


def find_model(model: str, models: Path) -> StreamingModel:
    """Loads a model by its folder, or by name or name:version from a folder of models or the bundled ones.

    Raises:
        ConfigError: There is none.
        WeightsError: It cannot be loaded.
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
    """The shortest that the data's frequency tells, or else the model's own."""
    seasons = season_lags(panel) if panel.frequency else ()
    return next(iter((*seasons, *lags)), USUAL_SEASON)


def evaluate_model(
    model: StreamingModel, panel: Panel, request: Request, progress: Progress = lambda *_: None
) -> Evaluation:
    """Streams the panel through the model and scores what it forecast.

    Series that are too short for all windows, or have no value of a target before the first one, are left out.

    Raises:
        EvaluationError: Model, data and request do not go together.
    """
    config = model.config
    protocol = Protocol(
        horizon=request.horizon or config.horizon,
        season=request.season or _season(panel, getattr(config, "lags", ())),
        windows=request.windows,
        step=request.step,
        first_cutoff=request.first_cutoff,
    )
    long = tuple(series for series in panel.series if series.rows >= protocol.shortest)
    if not long:
        raise EvaluationError(
            f"no series has the {protocol.shortest} rows that {protocol.windows} windows need; choose fewer "
            "--windows, or a smaller --step or --horizon"
        )
    seen = tuple(series for series in long if is_seen(series, panel.targets, int(protocol.cutoffs(series.rows)[0])))
    if not seen:
        raise EvaluationError(
            "no series has values of every target before the first cut-off; choose a later one (--first-cutoff)"
        )
    chosen = replace(panel, series=seen)
    done = evaluate_at(model, chosen, protocol, cutoffs_of(chosen, protocol), progress)
    if request.auto_ets:
        done = _with_auto_ets(done, progress)
    return replace(done, left_out=len(panel.series) - len(seen))


def evaluate_at(
    model: StreamingModel, panel: Panel, protocol: Protocol, cutoffs: Cutoffs, progress: Progress = lambda *_: None
) -> Evaluation:
    """Scores what a model forecasts at cut-offs of each series.

    Args:
        model: What to evaluate.
        panel: The series, each with a value of every target before its first cut-off.
        protocol: How many cut-offs, how far ahead and with which season.
        cutoffs: Those of each series.
        progress: Told how many series are done, and of how many.

    Raises:
        EvaluationError: Model, data and protocol do not go together, or there is no outcome after any cut-off.
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
    return Evaluation(outcomes, forecasts, Report.of(outcomes, forecasts))


def compared(done: Evaluation, others: Sequence[Forecasts]) -> Evaluation:
    """Puts other forecasts of the same outcomes beside those that are there."""
    forecasts = (*done.forecasts, *others)
    return replace(done, forecasts=forecasts, report=Report.of(done.outcomes, forecasts))


def _with_auto_ets(done: Evaluation, progress: Progress) -> Evaluation:
    told = lambda done, of: progress("AutoETS fits", done, of)  # noqa: E731
    outcomes, levels = done.outcomes, baseline_levels(done.forecasts[0].levels)
    return compared(done, [auto_ets(outcomes.truths, outcomes.protocol, levels, progress=told)])
