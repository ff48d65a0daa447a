"""Any split gives the same state and pit for models that see calendar, covariates and categories, and that adapt."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from statecast.model import Forecaster, Frequency, State
from statecast.model.config import Category
from statecast.model.contract import Future

START_NS = {"": 0, "12h": 0, "h": -7_200_000_000_000, "MS": -31_536_000_000_000_000}
KINDS: dict[str, dict[str, Any]] = {
    "": {},
    "h": {"frequency": "h", "calendar": ("day", "week"), "covariates": ("price",)},
    "weekend": {"frequency": "12h", "calendar": ("day", "weekend"), "lags": (2, 3), "window": 17, "multiples": 7},
    "MS": {
        "frequency": "MS",
        "calendar": ("year",),
        "covariates": ("price", "open"),
        "categories": (Category("region", ("n", "s")), Category("kind", ("x",))),
        "cell": "gru",
    },
}
Models = dict[str, Forecaster]
Row = tuple[Tensor, Tensor | None]


@pytest.fixture(scope="module")
def adapting(random_model: Callable[..., Forecaster]) -> Models:
    """Models whose intervals adapt fast, at one step ahead, at some, and at the last."""
    common = {"checked_steps": (1, 3, 6), "adaptation_rate": 0.3}
    made = {kind: random_model(**common, **changes) for kind, changes in KINDS.items()}
    for model in made.values():
        for embed in model.known.embeddings:
            torch.nn.init.normal_(embed.weight)  # type: ignore[arg-type]
    return made


def drawn(model: Forecaster, seed: int, batch: int, steps: int, missing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Values [B, T, D + C], times [B, T + horizon] from other beginnings for each row, and categories [B, S]."""
    rng = np.random.default_rng(seed)
    config, width = model.config, 2 + len(model.config.covariates)
    values = rng.choice([0.0, 1e3, -1e5], size=(batch, 1, width)) + rng.normal(size=(batch, steps, width)).cumsum(1)
    values[rng.random(values.shape) < missing] = np.nan
    total = steps + config.horizon
    times = np.zeros((batch, total), np.int64)
    if config.frequency:
        grid, start = Frequency.parse(config.frequency), START_NS[config.frequency]
        for row in range(batch):
            times[row] = [grid.add(grid.add(start, 5 * row), step) for step in range(total)]
    categories = rng.integers(0, [len(each.values) + 1 for each in config.categories], (batch, len(config.categories)))
    return torch.from_numpy(values), torch.from_numpy(times), torch.from_numpy(categories)


# Calls of other lengths round differently; intervals that adapt fast multiply the difference over hundreds of steps.
TOLERANCE = 1e-3


def assert_same(left: Tensor, right: Tensor, name: str) -> None:
    torch.testing.assert_close(
        left, right, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True, msg=lambda text: f"{name}: {text}"
    )


def assert_same_state(left: State, right: State) -> None:
    for name, part in left.items():
        assert_same(part, right[name], name)


def forecast(model: Forecaster, state: State, times: Tensor, categories: Tensor) -> Tensor:
    covariates = torch.ones(len(times), model.config.horizon, len(model.config.covariates), dtype=torch.float64)
    future = Future(times, covariates if model.config.covariates else None)
    return model.forecast(model.context(state, categories), model.config.horizon, future)


@settings(max_examples=40)
@given(
    st.sampled_from(list(KINDS)),
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_split_gives_the_same_state_pit_and_forecasts(
    adapting: Models, kind: str, seed: int, batch: int, pieces: list[int], missing: float
) -> None:
    model, steps = adapting[kind], sum(pieces)
    values, times, categories = drawn(model, seed, batch, steps, missing)
    whole = model.advance(model.initial_state(batch), values, times=times[:, :steps], categories=categories)
    state, pits, at = model.initial_state(batch), [], 0
    for piece in pieces:
        part = slice(at, at + piece)
        trace = model.advance(state, values[:, part], times=times[:, part], categories=categories)
        assert trace.pit.shape == (batch, piece, 2)
        state, at = trace.state, at + piece
        pits.append(trace.pit)
    assert_same_state(whole.state, state)
    assert_same(whole.pit, torch.cat(pits, dim=1), "pit")
    ahead = times[:, steps:]
    assert_same(forecast(model, whole.state, ahead, categories), forecast(model, state, ahead, categories), "forecast")


@settings(max_examples=30)
@given(
    st.sampled_from(list(KINDS)),
    st.integers(0, 2**31),
    st.lists(st.lists(st.integers(0, 25), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_ragged_rows_end_where_they_would_alone(adapting: Models, kind: str, seed: int, calls: list[list[int]]) -> None:
    model = adapting[kind]
    totals = [sum(call[row] for call in calls) for row in range(3)]
    values, times, categories = drawn(model, seed, 3, max(totals), 0.2)
    state, taken = model.initial_state(3), [0, 0, 0]
    pits: list[list[Tensor]] = [[], [], []]
    for call in calls:
        block = torch.full((3, max(call), values.shape[2]), 7.0, dtype=torch.float64)
        when = torch.full((3, max(call)), 1, dtype=torch.int64)  # no time of any grid
        for row, length in enumerate(call):
            part = slice(taken[row], taken[row] + length)
            block[row, :length], when[row, :length] = values[row, part], times[row, part]
            taken[row] += length
        trace = model.advance(state, block, torch.tensor(call), times=when, categories=categories)
        state = trace.state
        for row, length in enumerate(call):
            pits[row].append(trace.pit[row, :length])
    for row, total in enumerate(totals):
        one = slice(row, row + 1)
        alone = model.advance(
            model.initial_state(1), values[one, :total], times=times[one, :total], categories=categories[one]
        )
        assert_same_state(alone.state, state.select([row]))
        assert_same(alone.pit[0], torch.cat(pits[row]), "pit")


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_trace_goes_back_to_how_intervals_were(adapting: Models, kind: str) -> None:
    model = adapting[kind]
    values, times, categories = drawn(model, 4, 2, 50, 0.1)
    begun = model.advance(model.initial_state(2), values[:, :20], times=times[:, :20], categories=categories).state
    trace = model.advance(begun, values[:, 20:], times=times[:, 20:50], categories=categories)
    for step in (0, 1, 7, 30):
        part = slice(0, 20 + step)
        alone = model.advance(model.initial_state(2), values[:, part], times=times[:, part], categories=categories)
        ahead = times[:, 20 + step : 26 + step]
        context = trace.context(torch.arange(2), torch.full((2,), step))
        width = len(model.config.covariates)
        covariates = torch.ones(2, 6, width, dtype=torch.float64) if width else None
        got = model.forecast(context, 6, Future(ahead, covariates))
        assert_same(got, forecast(model, alone.state, ahead, categories), "forecast")


def test_all_of_it_makes_a_difference(adapting: Models) -> None:
    model = adapting["MS"]
    values, times, categories = drawn(model, 9, 1, 40, 0.0)

    def said(values: Tensor = values, times: Tensor = times, categories: Tensor = categories) -> Tensor:
        trace = model.advance(model.initial_state(1), values, times=times[:, :40], categories=categories)
        return forecast(model, trace.state, times[:, 40:], categories)

    other = values.clone()
    other[:, -1, 3] += 3
    changes = (said(other), said(times=times + 86_400_000_000_000 * 200), said(categories=(categories + 1) % 2))
    assert all(not torch.equal(said(), changed) for changed in changes)


def test_an_unknown_category_is_the_same_as_none_given(adapting: Models) -> None:
    model = adapting["MS"]
    values, times, _ = drawn(model, 9, 2, 10, 0.0)
    none = model.advance(model.initial_state(2), values, times=times[:, :10]).state
    zeros = model.advance(
        model.initial_state(2), values, times=times[:, :10], categories=torch.zeros(2, 2, dtype=torch.int64)
    ).state
    assert_same_state(none, zeros)
