"""Train a forecaster on a panel, and choose its weights on rows held back."""

import json
import logging
import math
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
from .lanes import WILD_SHARE, Chunk, Lanes
from .module import Recipe, TrainingModule

SECONDS_A_LINE = 60.0
# Long enough for the state to settle, even with the longest half-lives and lags.
VALIDATION_CONTEXT = 3000
LAST, INTERRUPTED = "last", "interrupted"


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        forecaster: The forecaster with the best weights.
        best_update: The number of updates before the best weights.
        updates: The number of updates made.
        took_seconds: The duration, including validations; without earlier runs if training was resumed.
        folder: The folder of checkpoints, which are no longer needed.
        began_with: Name and version of the model whose weights it began with; empty for random ones.
    """

    forecaster: Forecaster
    best_update: int
    updates: int
    took_seconds: float
    folder: Path
    began_with: str = ""


class Interrupted(Exception):
    """Training was stopped from the keyboard; the same call resumes it."""


def train(
    panel: Panel,
    config: ModelConfig,
    recipe: Recipe,
    work: Path,
    *,
    validation: HeldBack | None = None,
    horizon: int | None = None,
    start: Forecaster | None = None,
) -> Trained:
    """Train a model.

    Args:
        panel: The training data.
        config: The configuration of the model.
        recipe: The settings of the training.
        work: The folder for checkpoints. Each training has a subfolder there, from which the same training resumes.
        validation: The windows on which the best weights are chosen; None takes the last weights.
        horizon: The longest forecasts in training, in steps; None for the model's horizon.
        start: A forecaster with the weights to begin with, which fit the configuration; None for random ones. If they
            do best on the windows, they are kept.

    Raises:
        Interrupted: Ctrl-C was pressed.
    """
    begun = time.monotonic()
    torch.manual_seed(recipe.seed)
    forecaster, horizon = _untrained(panel, config, recipe, start), horizon or config.horizon
    folder = work / _fingerprint(panel, config, recipe, forecaster, f"{horizon} {start.digest if start else ''}")
    folder.mkdir(parents=True, exist_ok=True)
    judge = _judge(validation) if validation else None
    before = math.inf
    if start and judge:
        before = judge(forecaster.eval())
        forecaster.train()
    module = _Validated(forecaster, recipe, horizon, judge)
    best = ModelCheckpoint(
        folder,
        filename="best-{step}",
        monitor="sql" if validation else None,
        save_last=True,
        enable_version_counter=False,
    )
    trainer = _trainer(recipe, folder, best, validates=validation is not None)
    lanes = Lanes(panel, replace(forecaster.config, horizon=horizon), recipe.chunk, recipe.seed)
    chunks = DataLoader(_Endless(lanes), batch_size=None)
    windows = DataLoader(_Once()) if validation else None
    try:
        with _own_sigint(), warnings.catch_warnings():
            # Lightning's warnings about batches, slow reading and a non-empty folder do not apply here.
            warnings.filterwarnings("ignore", module=r"lightning\.")
            trainer.fit(module, chunks, windows, ckpt_path=_newest_checkpoint(folder), weights_only=True)
    except SystemExit as stop:  # Lightning exits this way on Ctrl-C, after writing its checkpoint
        raise Interrupted(f"stopped after {trainer.global_step} updates") from stop
    took, began_with = time.monotonic() - begun, f"{start.config.name} {start.config.version}" if start else ""
    if start and best.best_model_score is not None and before <= float(best.best_model_score):
        return Trained(_forecaster(config, start.state_dict(), ""), 0, trainer.global_step, took, folder, began_with)
    saved = load_checkpoint(Path(best.best_model_path or folder / f"{LAST}.ckpt"))
    final = _forecaster(config, saved["state_dict"], "forecaster.")
    return Trained(final, int(saved["global_step"]), trainer.global_step, took, folder, began_with)


def _untrained(panel: Panel, config: ModelConfig, recipe: Recipe, start: Forecaster | None) -> Forecaster:
    """Return the forecaster as training begins."""
    # Intervals adapt only when the model serves, not during training.
    forecaster = Forecaster(replace(config, checked_steps=(), adaptation_rate=0.0))
    if start is None:
        _scale_covariates(forecaster, panel)
    else:
        forecaster.load_state_dict(start.state_dict())
    forecaster.head.dropout = recipe.dropout
    return forecaster


def _forecaster(config: ModelConfig, weights: Mapping[str, Tensor], prefix: str) -> Forecaster:
    """Return the forecaster with the weights whose names have the prefix, such as those of a Lightning checkpoint."""
    forecaster = Forecaster(config)
    forecaster.load_state_dict(
        {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}
    )
    return forecaster.eval()


Judge = Callable[[Forecaster], float]


def _judge(held: HeldBack) -> Judge:
    """Return a function that scores a forecaster on the windows held back; lower is better."""
    panel, cutoffs, horizon = held.validated, held.cutoffs, held.protocol.horizon
    outcomes = Outcomes.of(truths_of(panel, cutoffs), held.protocol)

    def judge(forecaster: Forecaster) -> float:
        rolled = roll(forecaster, panel, cutoffs, horizon, context_steps=VALIDATION_CONTEXT)
        return float(score(outcomes, rolled).sql)

    return judge


class _Validated(TrainingModule):
    """A training module that also forecasts the windows held back, all in one validation step."""

    def __init__(self, forecaster: Forecaster, recipe: Recipe, horizon: int, judge: Judge | None) -> None:
        super().__init__(forecaster, recipe, horizon)
        # A function, because the moving average copies the module but must not copy the panel.
        self._judge = judge

    def validation_step(self, _: Any, __: int) -> None:
        """Log the score."""
        if self._judge is not None:
            self.log("sql", self._judge(self.forecaster), prog_bar=True, batch_size=1)


class _Lines(Callback):
    """A callback that prints a line of progress each minute, for logs."""

    def __init__(self, updates: int) -> None:
        self._updates, self._told_at = updates, time.monotonic()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Print the progress once a minute."""
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
    """Return about the wanted number of updates, chosen so that the last update is validated too."""
    return recipe.updates // max(1, round(recipe.updates / recipe.validate_every))


@contextmanager
def _own_sigint() -> Iterator[None]:
    """Restore the handler of Ctrl-C, since Lightning ignores Ctrl-C after the first one."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def _newest_checkpoint(work: Path) -> Path | None:
    """Return the newest checkpoint; after a resumed run was killed, that is not the one of the interruption."""
    there = [path for name in (INTERRUPTED, LAST) if (path := work / f"{name}.ckpt").exists()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def _fingerprint(panel: Panel, config: ModelConfig, recipe: Recipe, forecaster: Forecaster, others: str = "") -> str:
    """Return a hexadecimal hash that identifies a training; another release's models may have other weights."""
    content = sha256(f"{others}\n".encode())
    for name, weights in forecaster.state_dict().items():
        content.update(f"{name} {list(weights.shape)}\n".encode())
    for series in panel.series:
        content.update(f"{series.unique_id}\n{series.start_ns}\n{series.categories}".encode())
        content.update(np.ascontiguousarray(series.values).tobytes())
    # The weights do not depend on the version.
    described = {**config.to_dict(), "version": ""}
    content.update(json.dumps([described, asdict(recipe)], sort_keys=True).encode())
    return content.hexdigest()[:32]


def _scale_covariates(forecaster: Forecaster, panel: Panel) -> None:
    """Set the scales of covariates from all series together, so that a value means the same in all of them."""
    if not panel.covariates:
        return
    values = np.concatenate([series.values[:, len(panel.targets) :] for series in panel.series])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value
        # One broken value must not make all others look alike.
        values = np.clip(values, *np.nanquantile(values, [WILD_SHARE, 1 - WILD_SHARE], axis=0))
        centres, scales = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    forecaster.known.centres.copy_(torch.from_numpy(np.nan_to_num(centres)))
    forecaster.known.scales.copy_(torch.from_numpy(np.where(scales > 0, scales, 1.0)))
