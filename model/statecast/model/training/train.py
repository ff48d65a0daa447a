"""From a panel to a model folder: trains, chooses the weights on rows held back, and says how they do."""

import json
import logging
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    TQDMProgressBar,
)
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..config import ModelConfig
from ..data.panel import Panel
from ..evaluation.rolling import roll, truths_of
from ..evaluation.scores import Outcomes, score
from ..forecaster.forecaster import Forecaster
from .checkpoints import SafetensorsIO, load_checkpoint
from .held_back import HeldBack
from .lanes import Chunk, Lanes
from .module import Recipe, TrainingModule

SECONDS_A_LINE = 60.0
# Long enough for the state to be what it is on an endless series, in the longest half-lives and lags.
VALIDATION_CONTEXT = 3000
LAST, INTERRUPTED = "last", "interrupted"


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        forecaster: With the best weights.
        best_update: After how many updates they stood.
        updates: How many updates were made.
        took_seconds: Of training, validations included; only this run's if it was resumed.
        folder: Its checkpoints, which are of no more use.
    """

    forecaster: Forecaster
    best_update: int
    updates: int
    took_seconds: float
    folder: Path


class Interrupted(Exception):
    """Training was stopped from the keyboard; the same call goes on where it was."""


def train(
    panel: Panel, config: ModelConfig, recipe: Recipe, work: Path, *, validation: HeldBack | None = None
) -> Trained:
    """Trains a model.

    Args:
        panel: What to learn from.
        config: The model.
        recipe: How to train.
        work: A folder for checkpoints, each training's in one of its own: the same training goes on from them.
        validation: On whose windows the best weights are chosen; None to take the last ones.

    Raises:
        Interrupted: Ctrl-C was pressed.
    """
    folder = work / _fingerprint(panel, config, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    torch.manual_seed(recipe.seed)
    # Intervals are checked when the model serves, not while it learns.
    forecaster = Forecaster(replace(config, checked_steps=(), adaptation_rate=0.0))
    forecaster.head.dropout = recipe.dropout
    _scale_covariates(forecaster, panel)
    module = _Validated(forecaster, recipe, _judge(validation) if validation else None)
    best = ModelCheckpoint(
        folder,
        filename="best-{step}",
        monitor="sql" if validation else None,
        save_last=True,
        enable_version_counter=False,
    )
    trainer = _trainer(recipe, folder, best, validates=validation is not None)
    lanes = DataLoader(_Endless(Lanes(panel, config, recipe.chunk, recipe.seed)), batch_size=None)
    windows = DataLoader(_Once()) if validation else None
    try:
        with _own_sigint(), warnings.catch_warnings():
            # It cannot know that one chunk is a whole batch, that reading it is cheap, and what the folder holds.
            warnings.filterwarnings("ignore", module=r"lightning\.")
            trainer.fit(module, lanes, windows, ckpt_path=_newest_checkpoint(folder), weights_only=True)
    except SystemExit as stop:  # how Lightning ends on Ctrl-C, once its checkpoint is written
        raise Interrupted(f"stopped after {trainer.global_step} updates") from stop
    saved = load_checkpoint(Path(best.best_model_path or folder / f"{LAST}.ckpt"))
    final = _forecaster(config, saved["state_dict"])
    return Trained(final, int(saved["global_step"]), trainer.global_step, time.monotonic() - begun, folder)


def _forecaster(config: ModelConfig, weights: Mapping[str, Tensor]) -> Forecaster:
    """The forecaster out of what Lightning wrote."""
    prefix = "forecaster."
    forecaster = Forecaster(config)
    forecaster.load_state_dict(
        {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}
    )
    return forecaster.eval()


Judge = Callable[[Forecaster], float]


def _judge(held: HeldBack) -> Judge:
    """Says how good a forecaster is at the windows held back; lower is better."""
    panel, cutoffs, horizon = held.validated, held.cutoffs, held.protocol.horizon
    outcomes = Outcomes.of(truths_of(panel, cutoffs), held.protocol)

    def judge(forecaster: Forecaster) -> float:
        rolled = roll(forecaster, panel, cutoffs, horizon, context_steps=VALIDATION_CONTEXT)
        return float(score(outcomes, rolled).sql)

    return judge


class _Validated(TrainingModule):
    """Also forecasts the windows held back, all in one step."""

    def __init__(self, forecaster: Forecaster, recipe: Recipe, judge: Judge | None) -> None:
        super().__init__(forecaster, recipe)
        # A function, since the moving average copies the module, and must not copy the panel.
        self._judge = judge

    def validation_step(self, _: Any, __: int) -> None:
        """Logs the score."""
        if self._judge is not None:
            self.log("sql", self._judge(self.forecaster), prog_bar=True, batch_size=1)


class _Lines(Callback):
    """Tells how far the training is in a line a minute, for logs."""

    def __init__(self, updates: int) -> None:
        self._updates, self._told_at = updates, time.monotonic()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Tell it if it is time."""
        if time.monotonic() - self._told_at >= SECONDS_A_LINE:
            self._told_at = time.monotonic()
            score = trainer.callback_metrics.get("sql")
            told = "" if score is None else f", SQL {float(score):.4f}"
            print(f"update {trainer.global_step} of {self._updates}{told}", file=sys.stderr, flush=True)


class _Endless(IterableDataset[Chunk]):
    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    def __iter__(self) -> Any:
        return iter(self._lanes)


class _Once(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> int:
        return 0


def _trainer(recipe: Recipe, work: Path, best: ModelCheckpoint, *, validates: bool) -> lightning.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    is_watched = sys.stderr.isatty()
    callbacks: list[Callback] = [
        EMAWeightAveraging(decay=recipe.averaging, use_buffers=False),
        best,
        OnExceptionCheckpoint(work, INTERRUPTED),
        TQDMProgressBar(refresh_rate=10) if is_watched else _Lines(recipe.updates),
    ]
    if validates:
        callbacks.append(EarlyStopping("sql", patience=recipe.patience))
    return lightning.Trainer(
        accelerator="auto",
        devices=1,
        max_steps=recipe.updates,
        gradient_clip_val=1.0,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=is_watched,
        val_check_interval=_validation_interval(recipe) if validates else None,
        check_val_every_n_epoch=None if validates else 1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        default_root_dir=work,
        plugins=[SafetensorsIO()],
    )


def _validation_interval(recipe: Recipe) -> int:
    """About as many updates as wished, but so that the last ones, which learn most finely, are validated, too."""
    return recipe.updates // max(1, round(recipe.updates / recipe.validate_every))


@contextmanager
def _own_sigint() -> Iterator[None]:
    """Lightning ignores Ctrl-C ever after once it was pressed."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def _newest_checkpoint(work: Path) -> Path | None:
    """Where to go on, if anywhere: the process may have been killed long after it had gone on from an interruption."""
    there = [path for name in (INTERRUPTED, LAST) if (path := work / f"{name}.ckpt").exists()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def _fingerprint(panel: Panel, config: ModelConfig, recipe: Recipe) -> str:
    """Returns a hexadecimal number that is the same for the same training only."""
    content = sha256()
    for series in panel.series:
        content.update(f"{series.unique_id}\n{series.start_ns}\n{series.categories}".encode())
        content.update(np.ascontiguousarray(series.values).tobytes())
    # Whichever version it is to become, the weights are the same.
    described = {**config.to_dict(), "version": ""}
    content.update(json.dumps([described, asdict(recipe)], sort_keys=True).encode())
    return content.hexdigest()[:32]


def _scale_covariates(forecaster: Forecaster, panel: Panel) -> None:
    """The same value of a covariate is to mean the same everywhere, so its scale is that of all that was seen."""
    if not panel.covariates:
        return
    values = np.concatenate([series.values[:, len(panel.targets) :] for series in panel.series])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value
        centres, scales = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    forecaster.known.centres.copy_(torch.from_numpy(np.nan_to_num(centres)))
    forecaster.known.scales.copy_(torch.from_numpy(np.where(scales > 0, scales, 1.0)))
