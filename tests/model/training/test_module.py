"""One update: the state it carries over, the steps it scores, and the values it hides from the model."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from support.panels import panel_of, waves

from statecast.model import Forecaster, ModelConfig
from statecast.model.config import Category
from statecast.model.training.lanes import Chunk, Lanes
from statecast.model.training.module import WARM_UP_UPDATES, Recipe, TrainingModule

RECIPE = Recipe(chunk=30, origins=4, ahead=6, updates=400)


def module(recipe: Recipe = RECIPE, **changes: Any) -> TrainingModule:
    torch.manual_seed(0)
    values = {"name": "m", "version": "1", "targets": ("y",), "horizon": 12, "hidden_size": 8, "head_size": 8}
    config = ModelConfig(**{**values, **changes})
    return TrainingModule(Forecaster(config), recipe, config.horizon).train()


def chunks(made: TrainingModule, count: int, rows: int = 200) -> list[Chunk]:
    columns = [np.column_stack([each, each]) for each in waves(rows)]
    covariates = made.forecaster.config.covariates
    panel = panel_of(*(columns if covariates else waves(rows)), covariates=covariates)
    return list(islice(Lanes(panel, made.forecaster.config, RECIPE.chunk, 0), count))


def step(made: TrainingModule, chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    monkeypatch.setattr(made, "log", lambda *_, **__: None)
    return made.training_step(chunk, 0)


def test_sessions_go_on_and_begin_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module()
    steps = torch.zeros(8, dtype=torch.int64)
    for chunk in chunks(made, 12):
        step(made, chunk, monkeypatch).backward()  # type: ignore[no-untyped-call]
        steps = torch.where(chunk.fresh, 0, steps) + chunk.lengths
        state = made._carry.state
        assert state is not None
        assert torch.equal(state["step"], steps)
        assert not any(part.requires_grad for part in state.values())


def test_every_weight_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module(covariates=("price",))
    torch.nn.init.normal_(made.forecaster.head.emit.weight)
    for chunk in chunks(made, 2):
        loss = step(made, chunk, monkeypatch)
        assert float(loss.detach()) > 0
        loss.backward()  # type: ignore[no-untyped-call]
    for name, weight in made.forecaster.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.isfinite().all()), name
        assert bool(weight.grad.any()), name


@pytest.mark.parametrize("horizon", [1, 2, 5, 12])
def test_origins_have_seen_something_and_the_next_steps_are_always_scored(horizon: int) -> None:
    made = module(horizon=horizon)
    for chunk in chunks(made, 10, rows=41):
        rows, origins, ahead = made._origins(chunk)
        assert len(rows) == 8 * RECIPE.origins
        assert bool((origins >= 1).all())
        assert bool((origins <= chunk.lengths[rows]).all())
        assert len(set(ahead.tolist())) == len(ahead) == min(horizon, RECIPE.ahead)
        assert {each for each in (1, 2, 4, 8) if each <= horizon} & set(range(1, 5)) <= set(ahead.tolist())
        assert int(ahead.max()) <= horizon


@pytest.mark.parametrize(("share", "hidden"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5)])
def test_what_callers_may_not_know_is_hidden_now_and_then(share: float, hidden: float) -> None:
    made = module(Recipe(unknown_share=share), covariates=("price",), categories=(Category("region", ("n",)),))
    future = made._partly_untold(torch.ones(2000, 3, 1))
    assert future is not None
    assert float(future.isnan().all(1).float().mean()) == pytest.approx(hidden, abs=0.05)
    known = made._partly_unknown(torch.ones(2000, 1, dtype=torch.int64))
    assert float((known == 0).float().mean()) == pytest.approx(hidden, abs=0.05)
    assert made._partly_untold(torch.ones(5, 3, 0)) is None


def test_the_learning_rate_warms_up_and_goes_down() -> None:
    optimizers = module().configure_optimizers()
    scheduler, optimizer = optimizers["lr_scheduler"]["scheduler"], optimizers["optimizer"]
    rates = []
    for _ in range(RECIPE.updates):
        rates.append(optimizer.param_groups[0]["lr"] / RECIPE.learning_rate)
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(1 / WARM_UP_UPDATES)
    assert max(rates) == pytest.approx(1.0, abs=0.05)
    assert rates[-1] == pytest.approx(0.02, abs=0.001)


def test_missing_values_and_short_series_give_a_finite_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module()
    gaps = [np.where(np.random.default_rng(0).random(40) < 0.9, np.nan, 1.0), np.array([1.0]), np.full(30, 2.0)]
    for chunk in islice(Lanes(panel_of(*gaps), made.forecaster.config, RECIPE.chunk, 0), 6):
        loss = step(made, chunk, monkeypatch)
        assert bool(loss.isfinite())
        loss.backward()  # type: ignore[no-untyped-call]
    assert all(bool(weight.grad.isfinite().all()) for weight in made.parameters() if weight.grad is not None)
