"""Everything that a step computes stays on the model's device.

Tensors on the device "meta" have shapes but no values. Like those on a GPU, they do not mix with CPU tensors.
"""

from collections.abc import Callable

import pytest
import torch
from support.models import CATEGORIES, HORIZON, shop_model, tiny_model

from statecast.model import Context, Forecaster, StreamingModel, bundled_models, load_model

BATCH = 3
MODELS: dict[str, Callable[[], StreamingModel]] = {
    "tiny": tiny_model,
    "hourly": lambda: tiny_model("hourly"),
    "shop": shop_model,
    "base": lambda: load_model(bundled_models() / "base" / "2"),
}


def filled(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


@pytest.mark.parametrize("name", MODELS)
def test_a_step_and_a_forecast_stay_on_the_device(name: str) -> None:
    given = MODELS[name]()
    assert isinstance(given, Forecaster)
    model = Forecaster(given.config).eval().to("meta")
    config, state = model.config, model.initial_state(BATCH)
    assert {part.device.type for part in state.values()} == {"meta"}
    times = filled(BATCH, 1, dtype=torch.int64) if config.frequency else None
    covariates = filled(BATCH, 1, len(config.covariates)) if config.covariates else None
    categories = filled(BATCH, len(CATEGORIES), dtype=torch.int64) if config.categories else None
    statistics = model.naive.statistics(state)
    observed = model._observe(
        filled(BATCH, config.window + 1, len(config.targets)),
        state["hidden"],
        state.get("cell"),
        covariates,
        times,
        categories,
        filled(BATCH, 2, *statistics.periods.shape[1:], dtype=torch.int64),
        *statistics.parts,
    )
    assert {each.device.type for each in observed} == {"meta"}
    context = Context.of(state, statistics, categories)
    horizon = min(HORIZON, config.horizon)
    (quantiles,) = model._head(
        context.output,
        context.history,
        context.rows,
        context.ends,
        categories,
        filled(BATCH, horizon, dtype=torch.int64),
        filled(BATCH, horizon, dtype=torch.int64) if config.frequency else None,
        filled(BATCH, horizon, len(config.covariates)) if config.covariates else None,
        None,
        None,
        *context.statistics.parts,
        same_steps=True,
    )
    assert quantiles.device.type == "meta"
    assert quantiles.shape == (BATCH, horizon, len(config.quantile_levels), len(config.targets))
