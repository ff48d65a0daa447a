"""A sealed model does to the last bit what it did before, whatever the batch in which it was recorded."""

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from support.models import shop_model, tiny_model

import statecast.model.captured as captured_module
from statecast.model import Forecaster, Future, State, StreamingModel, bundled_models, load_model
from statecast.model.captured import MOST_RECORDED, SEEN_BEFORE, Captured

HOUR_NS = 3_600_000_000_000
MODELS: dict[str, Callable[[], StreamingModel]] = {
    "tiny": tiny_model,
    "shop": shop_model,
    "base": lambda: load_model(bundled_models() / "base" / "1"),
}


def sealed(model: Forecaster) -> Forecaster:
    copy = Forecaster(model.config)
    copy.load_state_dict(model.state_dict())
    copy.seal()
    return copy


def plain(model: Forecaster) -> Forecaster:
    copy = Forecaster(model.config).eval()
    copy.load_state_dict(model.state_dict())
    return copy


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.equal(left.nan_to_num(-1e9), right.nan_to_num(-1e9))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batches", [(1, 3, 1), (5, 1, 64)])
def test_steps_of_any_batch_are_the_same(name: str, batches: Sequence[int]) -> None:
    model = MODELS[name]()
    assert isinstance(model, Forecaster)
    one, other = plain(model), sealed(model)
    for batch in batches:
        rng = np.random.default_rng(batch)
        states: tuple[State, State] = one.initial_state(batch), other.initial_state(batch)
        for step in range(12):
            given = _given(one, rng, batch, step)
            traces = [each.advance(state, **given) for each, state in zip((one, other), states, strict=True)]
            assert all(same(traces[0].state[part], traces[1].state[part]) for part in states[0])
            assert same(traces[0].pit, traces[1].pit)
            states = traces[0].state, traces[1].state
            future = _future(one, rng, batch, step)
            forecasts = [
                each.forecast(each.context(trace.state, given["categories"]), one.config.horizon, future)
                for each, trace in zip((one, other), traces, strict=True)
            ]
            assert same(*forecasts)


def _given(model: Forecaster, rng: np.random.Generator, batch: int, step: int) -> dict[str, Any]:
    config = model.config
    values = rng.normal(size=(batch, 1, len(config.targets) + len(config.covariates))) + 100
    values[rng.random(values.shape) < 0.1] = np.nan
    counts = [len(category.values) + 1 for category in config.categories]
    return {
        "values": torch.from_numpy(values),
        "times": torch.full((batch, 1), step * HOUR_NS) if config.frequency else None,
        "categories": torch.from_numpy(rng.integers(0, counts, (batch, len(counts)))) if counts else None,
    }


def _future(model: Forecaster, rng: np.random.Generator, batch: int, step: int) -> Future:
    config = model.config
    times = (step + 1 + torch.arange(config.horizon)).expand(batch, -1) * HOUR_NS
    covariates = torch.from_numpy(rng.normal(size=(batch, config.horizon, len(config.covariates))))
    return Future(times if config.frequency else None, covariates if config.covariates else None)


def test_a_model_that_learns_is_not_sealed() -> None:
    model = tiny_model()
    model.train()
    trace = model.advance(model.initial_state(2), torch.ones(2, 1, len(model.config.targets), dtype=torch.float64))
    assert trace.state["hidden"].requires_grad


def test_two_threads_record_together_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = Captured()
    threads, recorded = 4, list[object]()
    together = threading.Barrier(threads)
    record = captured_module._record
    monkeypatch.setattr(captured_module, "SEEN_BEFORE", 1)
    is_worth_it = Captured._is_worth_it

    def all_at_once(captured: Captured, key: Hashable) -> bool:
        found = is_worth_it(captured, key)
        together.wait(20)
        return found

    def noted(*arguments: Any) -> Any:
        recorded.append(arguments)
        return record(*arguments)

    monkeypatch.setattr(Captured, "_is_worth_it", all_at_once)
    monkeypatch.setattr(captured_module, "_record", noted)

    def double() -> float:
        (doubled,) = captured.run("double", lambda values: (2 * values,), [torch.tensor([3.0])])
        return doubled.item()

    with ThreadPoolExecutor(threads) as pool:
        assert [each.result(60) for each in [pool.submit(double) for _ in range(threads)]] == [6.0] * threads
    assert len(recorded) == 1


def test_not_everything_is_recorded() -> None:
    captured, calls = Captured(), Counter[int]()

    def double(values: torch.Tensor, key: int) -> tuple[torch.Tensor]:
        calls[key] += 1
        return (2 * values,)

    for _ in range(5):
        for key in range(2 * MOST_RECORDED):
            (doubled,) = captured.run(key, partial(double, key=key), [torch.tensor([3.0])])
            assert doubled.tolist() == [6.0]
    recorded = [key for key, count in calls.items() if count == SEEN_BEFORE]
    assert len(recorded) == MOST_RECORDED
    assert all(count == 5 for key, count in calls.items() if key not in recorded)
