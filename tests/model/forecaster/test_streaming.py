"""Any split of the observations into calls gives the same state and the same forecasts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from statecast.model import Forecaster, ObservationError, State, bundled_models, load_model

CELLS = ("lstm", "gru", "rnn")
Models = dict[str, Forecaster]


def series(seed: int, batch: int, steps: int, missing: float) -> Tensor:
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(batch, steps, 2)).cumsum(axis=1)
    season = 3 * np.sin(np.arange(steps) * 2 * np.pi / 5)[None, :, None]
    values = rng.choice([0.0, 1e3, -1e6], size=(batch, 1, 2)) + walk + season
    values[rng.random(values.shape) < missing] = np.nan
    return torch.from_numpy(values)


def assert_same_state(left: State, right: State, tolerance: float = 1e-5) -> None:
    assert list(left) == list(right)
    for name, part in left.items():
        other = right[name]
        assert torch.equal(part.isnan(), other.isnan()), name
        scale = part.nan_to_num().abs().clamp(min=1)
        gap = ((part - other).nan_to_num().abs() / scale).max()
        assert gap <= tolerance, (name, gap)


def assert_same_forecast(model: Forecaster, left: State, right: State) -> None:
    first = model.forecast(model.context(left), model.config.horizon)
    second = model.forecast(model.context(right), model.config.horizon)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-4, equal_nan=True)


@settings(max_examples=60)
@given(
    st.sampled_from(CELLS),
    st.integers(0, 2**31),
    st.integers(1, 4),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_split_gives_the_same_state(
    models: Models, cell: str, seed: int, batch: int, pieces: list[int], missing: float
) -> None:
    model = models[cell]
    values = series(seed, batch, sum(pieces), missing)
    whole = model.advance(model.initial_state(batch), values)
    state = model.initial_state(batch)
    for piece in values.split(pieces, dim=1):  # type: ignore[no-untyped-call]
        state = model.advance(state, piece).state
    assert_same_state(whole.state, state)
    assert_same_forecast(model, whole.state, state)


@pytest.fixture(scope="module")
def base() -> Forecaster:
    model = load_model(bundled_models() / "base" / "2")
    assert isinstance(model, Forecaster)
    return model


STILL = {
    "0.1": (0.1, 0.0),
    "20.1": (20.1, 0.0),
    "a third of a million": (1e6 / 3, 0.0),
    "negative": (-7.7, 0.0),
    "small noise far from zero": (1e9, 1.0),
}


def still(level: float, noise: float) -> np.ndarray:
    steps = np.full(1500, level) + noise * np.random.default_rng(0).normal(size=1500)
    return np.append(steps, level * (1 + 0.01 * np.arange(5)))


@pytest.mark.slow
@pytest.mark.parametrize("split", [1, 13])
def test_a_series_that_hardly_moves_leaves_no_trace_of_its_splits(base: Forecaster, split: int) -> None:
    values = torch.from_numpy(np.stack([still(*each) for each in STILL.values()])).unsqueeze(2)
    start = base.initial_state(len(STILL))
    whole, state = base.advance(start, values).state, start
    for piece in values.split(split, dim=1):  # type: ignore[no-untyped-call]
        state = base.advance(state, piece).state
    horizon = torch.arange(1, 65)
    first, second = (base.quantiles(base.context(each), horizon) for each in (whole, state))
    widths = (first[:, :, -1] - first[:, :, 0]).unsqueeze(2)
    for row, kind in enumerate(STILL):
        # The tolerance allows for the float32 rounding errors that a cell accumulates over 1,500 steps.
        assert_same_state(whole.select([row]), state.select([row]), 1e-4)
        assert bool(((first[row] - second[row]).abs() <= 1e-4 * widths[row]).all()), kind


@settings(max_examples=40)
@given(
    st.sampled_from(CELLS),
    st.integers(0, 2**31),
    st.lists(st.lists(st.integers(0, 25), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_ragged_rows_end_where_they_would_alone(models: Models, cell: str, seed: int, calls: list[list[int]]) -> None:
    model = models[cell]
    totals = [sum(call[row] for call in calls) for row in range(3)]
    values = series(seed, 3, max(totals), 0.2)
    state, taken = model.initial_state(3), [0, 0, 0]
    for call in calls:
        block = torch.full((3, max(call), 2), 7.0, dtype=torch.float64)
        for row, length in enumerate(call):
            block[row, :length] = values[row, taken[row] : taken[row] + length]
            taken[row] += length
        state = model.advance(state, block, torch.tensor(call)).state
    for row, total in enumerate(totals):
        alone = model.advance(model.initial_state(1), values[row : row + 1, :total])
        mine = state.select(torch.tensor([row]))
        assert_same_state(alone.state, mine)
        assert_same_forecast(model, alone.state, mine)


@pytest.mark.parametrize("cell", CELLS)
def test_a_trace_goes_back_to_every_step(models: Models, cell: str) -> None:
    model = models[cell]
    values = series(3, 2, 30, 0.1)
    begun = model.advance(model.initial_state(2), values[:, :10]).state
    trace = model.advance(begun, values[:, 10:], torch.tensor([20, 12]))
    rows, steps = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 12, 20, 5])
    got = model.forecast(trace.context(rows, steps), 6)
    for answer, row, step in zip(got, rows.tolist(), steps.tolist(), strict=True):
        state = model.advance(model.initial_state(1), values[row : row + 1, : 10 + step]).state
        expected = model.forecast(model.context(state), 6)[0]
        torch.testing.assert_close(answer, expected, rtol=1e-5, atol=1e-4)


def test_a_trace_refuses_a_step_that_a_session_did_not_take(models: Models) -> None:
    model = models["lstm"]
    trace = model.advance(model.initial_state(2), series(0, 2, 4, 0), torch.tensor([4, 2]))
    with pytest.raises(ObservationError, match="steps"):
        trace.context(torch.tensor([1]), torch.tensor([3]))


def test_many_observations_in_one_call(models: Models) -> None:
    model = models["lstm"]
    values = series(1, 1, 10_000, 0.05)
    whole = model.advance(model.initial_state(1), values).state
    state = model.initial_state(1)
    for piece in values.split(1_234, dim=1):  # type: ignore[no-untyped-call]
        state = model.advance(state, piece).state
    assert_same_state(whole, state)
    assert int(whole["step"]) == 10_000


def test_a_batch_mate_changes_nothing(models: Models) -> None:
    model = models["lstm"]
    values = series(5, 5, 20, 0.1)
    together = model.advance(model.initial_state(5), values).state
    alone = model.advance(model.initial_state(1), values[2:3]).state
    assert_same_state(alone, together.select(torch.tensor([2])))


@pytest.mark.parametrize(
    ("values", "lengths", "field"),
    [
        (torch.zeros(2, 3, 2), None, "values"),
        (torch.zeros(2, 3, 1, dtype=torch.float64), None, "values"),
        (torch.zeros(3, 3, 2, dtype=torch.float64), None, "values"),
        (torch.full((2, 3, 2), torch.inf, dtype=torch.float64), None, "values"),
        (torch.full((2, 3, 2), -2e30, dtype=torch.float64), None, "values"),
        (torch.zeros(2, 3, 2, dtype=torch.float64), torch.tensor([1]), "lengths"),
        (torch.zeros(2, 3, 2, dtype=torch.float64), torch.tensor([4, 0]), "lengths"),
        (torch.zeros(2, 3, 2, dtype=torch.float64), torch.tensor([-1, 0]), "lengths"),
    ],
)
def test_bad_observations_are_refused_by_name(
    models: Models, values: Tensor, lengths: Tensor | None, field: str
) -> None:
    model = models["lstm"]
    with pytest.raises(ObservationError, match=field):
        model.advance(model.initial_state(2), values, lengths)


@pytest.mark.parametrize("horizon", [0, 7, -1])
def test_a_horizon_out_of_range_is_refused(models: Models, horizon: int) -> None:
    model = models["lstm"]
    with pytest.raises(ObservationError, match="horizon"):
        model.forecast(model.context(model.initial_state(1)), horizon)
