"""Makes a model folder out of a panel: configuration, training, validation, card."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import ModelConfig
from ..data.panel import Panel
from ..errors import ConfigError
from ..evaluation.report import Report
from ..evaluation.rolling import roll
from ..evaluation.run import compared, evaluate_at, find_model
from ..evaluation.windows import Forecasts
from ..files import CONFIG_FILE, bundled_models, save_model
from ..forecaster.forecaster import Forecaster
from .card import BUNDLED_NAME, CARD_FILE, card_of, metrics_of, verdict
from .checkpoints import cache_folder
from .defaults import Wishes, configure
from .held_back import HeldBack, hold_back
from .module import Recipe
from .outliers import without_outliers
from .train import Trained, train

Say = Callable[[str], None]
BUNDLED = "base"


@dataclass(frozen=True)
class Made:
    """A model that was trained.

    Attributes:
        folder: Where it lies: <models>/<name>/<version>.
        config: What it is.
        report: How it does on the rows held back.
        verdict: Says which other forecasters did as well or better there; empty if none did.
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
    validation_rows: int | None = None,
    refit: bool = False,
    work_dir: Path | None = None,
    say: Say = print,
) -> Made:
    """Trains a model and puts it where `statecast serve --models` finds it, as that name's next version.

    Args:
        panel: The data.
        name: The model's name.
        models: The folder of models.
        wishes: What the user says of the model.
        recipe: How to train.
        validation_rows: How many of the last rows of each series to hold back; None for an eighth, at most 20 horizons.
        refit: Whether to train once more on all rows, as long as did best without those held back.
        work_dir: Where checkpoints lie until the training is done; None for the user's cache.
        say: Told what is going on, a line at a time.

    Raises:
        ConfigError: The name or a wish is not possible.
        DataError: The data are too short, or tell nothing of how well the model does.
        Interrupted: Ctrl-C was pressed; the same call goes on.
    """
    config = configure(panel, name, _next_version(models, name), wishes)
    season = config.lags[0] if config.lags else 1
    held = hold_back(without_outliers(panel), config.horizon, validation_rows, season)
    for finding in held.whole.findings.items[len(panel.findings.items) :]:
        say(f"  {finding}")
    say(held.summary())
    work = work_dir or cache_folder()
    trained = train(held.learned, config, recipe, work, validation=held)
    finished = [trained.folder]
    report = _validate(trained.forecaster, held)
    say(f"best after {trained.best_update} of {trained.updates} updates: SQL {report.rows[0].scores.sql:.4f}")
    if refit:
        say(f"training once more on all rows, {trained.best_update} updates")
        again = replace(recipe, updates=trained.best_update)
        refitted = train(held.whole, config, again, work)
        finished.append(refitted.folder)
        trained = replace(refitted, took_seconds=trained.took_seconds + refitted.took_seconds)
    folder = models / name / config.version
    _publish(folder, config, held.whole if refit else held.learned, recipe, trained, report, refit)
    _clear(finished)
    return Made(folder, config, report, verdict(report))


def _validate(forecaster: Forecaster, held: HeldBack) -> Report:
    """The scores on the rows held back, those of the bundled model among them if it sees so far ahead."""
    done = evaluate_at(forecaster, held.validated, held.protocol, held.cutoffs)
    return compared(done, list(_bundled(held))).report


def _bundled(held: HeldBack) -> Iterator[Forecasts]:
    """What the bundled model says of each series and target, of which it sees nothing else."""
    base = find_model(BUNDLED, bundled_models())
    if held.protocol.horizon <= base.config.horizon:
        cutoffs = [each for each in held.cutoffs for _ in held.validated.targets]
        rolled = roll(base, held.validated.by_target(), cutoffs, held.protocol.horizon)
        yield replace(rolled, name=BUNDLED_NAME)


def _clear(folders: Sequence[Path]) -> None:
    """Deletes the checkpoints of trainings that are done."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _next_version(models: Path, name: str) -> str:
    taken = [int(each.name) for each in (models / name).glob("*") if each.name.isdecimal()]
    return str(max(taken, default=0) + 1)


def _publish(
    folder: Path, config: ModelConfig, panel: Panel, recipe: Recipe, trained: Trained, report: Report, refitted: bool
) -> None:
    """Writes the whole folder under a hidden name first: a server may be looking."""
    beside = folder.parent / f".{folder.name}.{os.getpid()}"
    metrics = metrics_of(panel, recipe, trained, report, refitted)
    try:
        save_model(trained.forecaster, beside, metrics)
        (beside / CARD_FILE).write_text(card_of(config, panel, trained, report, _period(panel)), encoding="utf-8")
        if (folder / CONFIG_FILE).exists():
            raise ConfigError(f"version: {folder} has been made meanwhile; the same call makes the next one")
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _period(panel: Panel) -> str:
    """From when to when, if that is known."""
    if not panel.frequency:
        return ""
    times = [series.times(panel.frequency) for series in panel.series]
    first, last = min(each[0] for each in times), max(each[-1] for each in times)
    begin, end = (str(np.datetime64(int(each), "ns").astype("datetime64[s]")) for each in (first, last))
    return f" every {panel.frequency}, {begin} to {end} UTC"
