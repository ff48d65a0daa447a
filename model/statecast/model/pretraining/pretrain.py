"""Train `base` on synthetic series: python -m statecast.model.pretraining.pretrain.

Every batch holds new series, and every series is read once from its first value, as in the service. Gradients reach
back over one chunk (truncated backpropagation through time), and the state continues in the next chunk.

A training that was stopped continues from its checkpoint, with the same result. A checkpoint from before the decay of
the learning rate can also go on with more batches.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..config import ModelConfig
from ..files import bundled_models, save_model
from ..forecaster.forecaster import Forecaster
from ..training.loss import local_scale, scaled_pinball
from .checkpoint import DECAY_FROM, Progress
from .synthetic import make_series
from .validation import validate

BASE = ModelConfig(
    name="base",
    version="2",
    cell="lstm",
    layers=1,
    hidden_size=88,
    head_size=96,
    horizon=1000,
    quantile_levels=(0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99),
    window=640,
    lags=(),
    periods=4,
    multiples=4,
    half_lives=(2.0, 12.0, 60.0, 300.0),
    carry_half_lives=(1.0, 10.0),
    error_half_lives=(24.0, 200.0),
)
CHECKED_STEPS, ADAPTATION_RATE = (1, 8, 64), 0.1
CHECKPOINT_EVERY = 20


@dataclass(frozen=True)
class Settings:
    """The settings of the training.

    Attributes:
        seed: The seed of the weights and the series.
        batch: The number of series in a batch.
        steps: The number of time steps of a series.
        chunk: How many time steps gradients reach back.
        origins: Forecast origins of each series in each chunk.
        near: How many of the next `near_steps` steps ahead each chunk scores.
        near_steps: The steps ahead that most users ask for.
        far: How many of the later steps ahead each chunk scores, more of the earlier ones among them.
        batches: The number of batches.
        learning_rate: The highest learning rate.
        threads: CPU threads. Other numbers change the order of sums and give slightly different weights.
    """

    seed: int = 0
    batch: int = 32
    steps: int = 1280
    chunk: int = 256
    origins: int = 16
    near: int = 9
    near_steps: int = 72
    far: int = 3
    batches: int = 5000
    learning_rate: float = 3e-3
    threads: int = 1


def make_batch(rng: np.random.Generator, size: int, steps: int) -> tuple[Tensor, Tensor]:
    """Make series, float64 [size, steps, 1], and their spreads, float64 [size, 1]."""
    made = [make_series(rng, steps) for _ in range(size)]
    values = torch.from_numpy(np.stack([one.values for one in made])).unsqueeze(2)
    return values, torch.tensor([[one.spread] for one in made], dtype=torch.float64)


def train(forecaster: Forecaster, settings: Settings, checkpoint: Path | None = None) -> Progress:
    """Train a forecaster in place, from the checkpoint on if there is one."""
    optimizer = torch.optim.AdamW(forecaster.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    chunks = settings.steps // settings.chunk
    progress = Progress.resumed(checkpoint, forecaster, optimizer, asdict(settings))
    forecaster.train()
    for batch in range(progress.batches, settings.batches):
        begun, losses = time.monotonic(), []
        rng = np.random.default_rng((settings.seed, batch))
        for done, loss in enumerate(_chunks(forecaster, settings, rng), batch * chunks):
            _set_rate(optimizer, settings.learning_rate, done / (settings.batches * chunks), done)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(forecaster.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        progress.add(float(np.mean(losses)), time.monotonic() - begun)
        print(f"batch {batch + 1}/{settings.batches} loss {progress.losses[-1]:.4f}", flush=True)
        if checkpoint and (batch + 1) % CHECKPOINT_EVERY == 0:
            progress.save(checkpoint, forecaster, optimizer, asdict(settings))
    forecaster.eval()
    return progress


def _chunks(forecaster: Forecaster, settings: Settings, rng: np.random.Generator) -> Iterator[Tensor]:
    """Read one batch of series, and yield the loss of each chunk."""
    horizon = forecaster.config.horizon
    values, spreads = make_batch(rng, settings.batch, settings.steps)
    values = functional.pad(values, (0, 0, 0, horizon), value=torch.nan)  # no outcomes after the end
    state = forecaster.initial_state(settings.batch)
    rows = torch.arange(settings.batch).repeat_interleave(settings.origins)
    for start in range(0, settings.steps, settings.chunk):
        stop = start + settings.chunk
        trace = forecaster.unroll(state, values[:, start:stop])
        state = trace.state.detach()
        origins = torch.from_numpy(rng.integers(1, settings.chunk + 1, len(rows)))
        ahead = torch.from_numpy(_ahead(rng, settings, horizon))
        index = start + origins[:, None] + ahead - 1
        outcomes = values[rows[:, None], index]
        context = trace.context(rows, origins)
        # Limited to the spread without extreme values, so that errors after an extreme value keep their weight.
        scales = local_scale(forecaster, context).minimum(spreads[rows])
        quantiles = forecaster.quantiles(context, ahead)
        yield scaled_pinball(quantiles, outcomes, scales, forecaster.config.quantile_levels)


def _ahead(rng: np.random.Generator, settings: Settings, horizon: int) -> np.ndarray:
    """Choose the steps ahead to score, int64 [near + far], ascending."""
    near = 1 + rng.choice(settings.near_steps, settings.near, replace=False)
    far = np.exp(rng.uniform(np.log(settings.near_steps + 1), np.log(horizon + 1), settings.far)).astype(np.int64)
    return np.sort(np.concatenate([near, far]))


def _set_rate(optimizer: torch.optim.Optimizer, highest: float, progress: float, done: int) -> None:
    """Set the learning rate: a warm-up of 50 updates, then the highest rate, at last a cosine decay to 2 %."""
    decay = max(0.0, progress - DECAY_FROM) / (1 - DECAY_FROM)
    cosine = 0.51 + 0.49 * float(np.cos(np.pi * min(decay, 1.0)))
    for group in optimizer.param_groups:
        group["lr"] = highest * min(1.0, (done + 1) / 50) * cosine


def main() -> None:
    """Train, validate and write the model."""
    parser = argparse.ArgumentParser(description="Train the bundled base model.")
    parser.add_argument("--out", type=Path, default=bundled_models() / "base" / BASE.version)
    parser.add_argument("--batches", type=int, default=Settings.batches)
    parser.add_argument("--threads", type=int, default=Settings.threads)
    parser.add_argument("--checkpoint", type=Path, help="A file to continue from, and to write to now and then.")
    arguments = parser.parse_args()
    settings = Settings(batches=arguments.batches, threads=arguments.threads)
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    trained = Forecaster(BASE)
    progress = train(trained, settings, arguments.checkpoint)
    # Intervals adapt only when the model serves, not during training.
    final = ModelConfig.from_dict(BASE.to_dict() | {"checked_steps": CHECKED_STEPS, "adaptation_rate": ADAPTATION_RATE})
    forecaster = Forecaster(final).eval()
    forecaster.load_state_dict(trained.state_dict())
    metrics = {"training": asdict(settings) | progress.summary(), "validation": validate(forecaster)}
    save_model(forecaster, arguments.out, metrics)
    print(metrics["validation"])


if __name__ == "__main__":
    main()
