"""Make a model folder from a panel: configuration, training, validation, card."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import ModelConfig
from ..data.panel import Panel
from ..data.seasons import season_lags
from ..evaluation.report import Report
from ..evaluation.rolling import roll
from ..evaluation.run import compared, evaluate_at, find_model
from ..evaluation.windows import Forecasts
from ..files import bundled_models, next_version, publishing, save_model
from ..forecaster.forecaster import Forecaster
from .card import BUNDLED_NAME, CARD_FILE, card_of, metrics_of, verdict
from .checkpoints import cache_folder
from .defaults import Wishes, configure
from .fine_tuning import configure_like, trained_horizon
from .held_back import HeldBack, hold_back
from .module import Recipe
from .train import Trained, train

Say = Callable[[str], None]
BUNDLED = "base"


@dataclass(frozen=True)
class Made:
    """A trained model.

    Attributes:
        folder: The model's folder, <models>/<name>/<version>.
        config: The model's configuration.
        report: The scores on the rows held back.
        verdict: A sentence about other forecasters that were as good or better there; empty if none was.
    """

    folder: Path
    config: ModelConfig
    report: Report
    verdict: str


def make_model(
    panel: Panel,
    name: str,
    models: Path,
    wishes: Wishes,
    recipe: Recipe,
    *,
    start: Forecaster | None = None,
    validation_rows: int | None = None,
    refit: bool = False,
    work_dir: Path | None = None,
    say: Say = print,
) -> Made:
    """Train a model and write it to the folder of models, for `statecast serve --models`, as the name's next version.

    Args:
        panel: The data.
        name: The model's name.
        models: The folder of models.
        wishes: The user's choices.
        recipe: The settings of the training.
        start: A model whose weights training begins with; None for random ones.
        validation_rows: How many of the last rows of each series to hold back. None holds back an eighth of the longest
            series, but at most 20 horizons.
        refit: Whether to train again on all rows, for as many updates as were best before.
        work_dir: The folder of checkpoints during training; None for the user's cache.
        say: Called with each line of progress.

    Raises:
        ConfigError: The name or a choice is not possible.
        DataError: The data are too short, or the model cannot be scored on them.
        Interrupted: Ctrl-C was pressed; calling again resumes the training.
    """
    version = next_version(models, name)
    if start is None:
        config = configure(panel, name, version, wishes)
        horizon, lags = config.horizon, config.lags
    else:
        config = configure_like(start.config, panel, name, version, wishes)
        horizon, lags = trained_horizon(start.config, panel, wishes), config.lags or season_lags(panel)
    held = hold_back(panel, horizon, validation_rows, lags[0] if lags else 1)
    _say_held_back(held, panel, say)
    work = work_dir or cache_folder()
    trained = first = train(held.learned, config, recipe, work, validation=held, horizon=horizon, start=start)
    report = _validate(trained.forecaster, held)
    say(f"best after {trained.best_update} of {trained.updates} updates: SQL {report.rows[0].scores.sql:.4f}")
    if start is not None and not trained.best_update:
        say(f"no update did better than the weights of {start.config.name}, which are kept")
        refit = False
    if refit:
        say(f"training once more on all rows, {trained.best_update} updates")
        trained = _refit(trained, held, config, recipe, work, start)
    folder = models / name / config.version
    _publish(folder, config, held.whole if refit else held.learned, recipe, trained, report, refit)
    _clear({first.folder, trained.folder})
    return Made(folder, config, report, verdict(report))


def _say_held_back(held: HeldBack, panel: Panel, say: Say) -> None:
    """Say which rows are held back, and what was found on the way."""
    for finding in held.whole.findings.items[len(panel.findings.items) :]:
        say(f"  {finding}")
    say(held.summary())


def _refit(
    trained: Trained, held: HeldBack, config: ModelConfig, recipe: Recipe, work: Path, start: Forecaster | None
) -> Trained:
    """Train again on all rows, for as many updates as were best before."""
    recipe = replace(recipe, updates=trained.best_update)
    refitted = train(held.whole, config, recipe, work, horizon=held.protocol.horizon, start=start)
    return replace(refitted, took_seconds=trained.took_seconds + refitted.took_seconds)


def _validate(forecaster: Forecaster, held: HeldBack) -> Report:
    """Return the scores on the rows held back, including the bundled model's if its horizon is long enough."""
    done = evaluate_at(forecaster, held.validated, held.protocol, held.cutoffs)
    return compared(done, list(_bundled(held))).report


def _bundled(held: HeldBack) -> Iterator[Forecasts]:
    """Yield the forecasts of the bundled model, which sees each series and target separately."""
    base = find_model(BUNDLED, bundled_models())
    if held.protocol.horizon <= base.config.horizon:
        cutoffs = [each for each in held.cutoffs for _ in held.validated.targets]
        rolled = roll(base, held.validated.by_target(), cutoffs, held.protocol.horizon)
        yield replace(rolled, name=BUNDLED_NAME)


def _clear(folders: Iterable[Path]) -> None:
    """Delete the checkpoints of finished trainings."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(
    folder: Path, config: ModelConfig, panel: Panel, recipe: Recipe, trained: Trained, report: Report, refitted: bool
) -> None:
    """Write the model and its card to the folder."""
    with publishing(folder) as beside:
        save_model(trained.forecaster, beside, metrics_of(panel, recipe, trained, report, refitted))
        card = card_of(config, panel, trained, report, _period(panel), refitted=refitted)
        (beside / CARD_FILE).write_text(card, encoding="utf-8")


def _period(panel: Panel) -> str:
    """Return the frequency and period of the data as text; empty if only position counts."""
    if not panel.frequency:
        return ""
    times = [series.times(panel.frequency) for series in panel.series]
    first, last = min(each[0] for each in times), max(each[-1] for each in times)
    begin, end = (str(np.datetime64(int(each), "ns").astype("datetime64[s]")) for each in (first, last))
    return f" every {panel.frequency}, {begin} to {end} UTC"
