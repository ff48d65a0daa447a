"""The Lightning module: it trains the forecaster with the code that serves, on forecasts from many steps."""

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor

from ..contract import Future
from ..forecaster.forecaster import Forecaster
from ..state import State
from .lanes import Chunk
from .loss import scaled_pinball

WARM_UP_UPDATES = 50
FINAL_SHARE = 0.02
# These steps ahead are always scored, since most users ask for the next steps.
NEXT_STEPS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Recipe:
    """The settings of a training.

    Attributes:
        seed: The seed of weights, order of series and starting steps.
        updates: The largest number of weight updates.
        learning_rate: The highest learning rate.
        weight_decay: The weight decay of AdamW.
        dropout: Share of the head's hidden units that each update leaves out.
        averaging: Decay of the moving average of the weights, which becomes the model.
        chunk: How many rows gradients reach back.
        origins: Forecast origins of each lane in each update.
        ahead: How many of the horizon's steps each update scores.
        unknown_share: How often the future covariates of an origin, and the category of a lane, are hidden.
        validate_every: Updates between two validations.
        patience: Validations without improvement after which training stops.
    """

    seed: int = 0
    updates: int = 3000
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout: float = 0.15
    averaging: float = 0.99
    chunk: int = 336
    origins: int = 8
    ahead: int = 24
    unknown_share: float = 0.1
    validate_every: int = 100
    patience: int = 10


class Carry:
    """The sessions of the lanes between two updates; a copy of the module starts without sessions."""

    def __init__(self) -> None:
        self.state: State | None = None

    def __deepcopy__(self, _: dict[int, Any]) -> "Carry":
        return Carry()


class TrainingModule(lightning.LightningModule):
    """Training by truncated back-propagation through time; sessions continue from update to update."""

    def __init__(self, forecaster: Forecaster, recipe: Recipe, horizon: int) -> None:
        """Train the forecaster on forecasts of up to so many steps."""
        super().__init__()
        self.forecaster, self.recipe, self.horizon = forecaster, recipe, horizon
        self._carry = Carry()
        self._rng = np.random.default_rng(recipe.seed)

    def training_step(self, chunk: Chunk, _: int) -> Tensor:
        """Read one chunk, forecast from some of its steps, and return the loss."""
        forecaster, steps = self.forecaster, self.recipe.chunk
        categories = self._partly_unknown(chunk.categories)
        times = chunk.times
        trace = forecaster.unroll(
            self._sessions(chunk.fresh),
            chunk.rows[:, :steps],
            chunk.lengths,
            times=None if times is None else times[:, :steps],
            categories=categories,
        )
        self._carry.state = trace.state.detach()
        rows, origins, ahead = self._origins(chunk)
        landing = origins.unsqueeze(1) + ahead - 1
        came = chunk.rows[rows.unsqueeze(1), landing]
        outcomes, covariates = torch.split(came, [chunk.scales.shape[1], came.shape[2] - chunk.scales.shape[1]], dim=2)
        future = Future(None if times is None else times[rows.unsqueeze(1), landing], self._partly_untold(covariates))
        quantiles = forecaster.quantiles(trace.context(rows, origins), ahead, future)
        loss = scaled_pinball(quantiles, outcomes, chunk.scales[rows], forecaster.config.quantile_levels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Return AdamW with a warm-up and a cosine decay of the learning rate to 2 %."""
        recipe = self.recipe
        optimizer = torch.optim.AdamW(self.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

        def share(update: int) -> float:
            cosine = 0.5 + 0.5 * float(np.cos(np.pi * min(1.0, update / recipe.updates)))
            return min(1.0, (update + 1) / WARM_UP_UPDATES) * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _sessions(self, fresh: Tensor) -> State:
        """Return the lanes' sessions, with initial states for lanes that begin a series."""
        initial = self.forecaster.initial_state(len(fresh))
        carried = self._carry.state
        if carried is None or carried.batch_size != len(fresh):
            return initial
        begin = {name: fresh.view(-1, *[1] * (part.dim() - 1)) for name, part in initial.items()}
        return State({name: torch.where(begin[name], part, carried[name]) for name, part in initial.items()})

    def _origins(self, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
        """Return lanes and the number of their rows before a forecast, int64 [N]; and the steps ahead, int64 [S]."""
        horizon, device = self.horizon, chunk.rows.device
        rows = torch.arange(len(chunk.lengths), device=device).repeat_interleave(self.recipe.origins)
        share = torch.from_numpy(self._rng.random(len(rows))).to(device)
        origins = 1 + (share * (chunk.lengths[rows] - 1).clamp(min=0)).long()
        origins = origins.minimum(chunk.lengths[rows])
        always = [step for step in NEXT_STEPS if step <= horizon]
        count = min(horizon, max(self.recipe.ahead, len(always)))
        others = np.setdiff1d(np.arange(1, horizon + 1), always)
        chosen = self._rng.choice(others, count - len(always), replace=False)
        return rows, origins, torch.tensor(sorted([*always, *chosen.tolist()]), device=device)

    def _partly_untold(self, covariates: Tensor) -> Tensor | None:
        """Hide the future covariates of some origins, since callers may not know them either."""
        if not covariates.shape[2]:
            return None
        hidden = torch.from_numpy(self._rng.random(len(covariates)) < self.recipe.unknown_share)
        return covariates.masked_fill(hidden.to(covariates.device).view(-1, 1, 1), torch.nan)

    def _partly_unknown(self, categories: Tensor) -> Tensor:
        """Hide the categories of some lanes, since new ones will occur."""
        hidden = torch.from_numpy(self._rng.random(categories.shape) < self.recipe.unknown_share)
        return categories.masked_fill(hidden.to(categories.device), 0)
