"""Imported networks beside the loops of those who trained them, and as streaming models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.imported_networks import CENTRE, RECURRENT, SCALE, STEPS, WINDOW, made, medians, network, series
from torch import Tensor, nn

from statecast.model import (
    Future,
    Imported,
    ObservationError,
    State,
    StreamingModel,
)


@torch.inference_mode()
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")  # torch's choice
@pytest.mark.parametrize("cell", RECURRENT)
def test_a_carried_state_forecasts_as_the_owners_loop(tmp_path: Path, cell: str) -> None:
    lstm, head = network(cell)
    values, state, owner = series(), None, []
    for value in values:
        output, state = lstm((((value - CENTRE) / SCALE).float()).view(1, 1, 1), state)
        owner.append(head(output[:, -1])[0] * SCALE + CENTRE)
    model = made(tmp_path, lstm, head, stateful=True, scale=[(CENTRE, SCALE)])
    assert model.config.horizon == 3
    told = medians(model, values.unsqueeze(1), 3).squeeze(2)
    torch.testing.assert_close(told, torch.stack(owner).double(), rtol=0, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("cell", RECURRENT)
def test_a_window_forecasts_as_the_owners_loop(tmp_path: Path, cell: str) -> None:
    lstm, head = network(cell)
    values = series()
    scaled = (values - 10) / (35 - 10) * 2 - 1
    owner = [
        (head(lstm(scaled[end - WINDOW : end].float().view(1, -1, 1))[0][:, -1])[0] + 1) / 2 * 25 + 10
        for end in range(WINDOW, STEPS + 1)
    ]
    model = made(tmp_path, lstm, head, window=WINDOW, min_max=[(10, 35)], min_max_range=(-1, 1))
    told = medians(model, values.unsqueeze(1), 3).squeeze(2)
    assert bool(told[: WINDOW - 1].isnan().all())
    torch.testing.assert_close(told[WINDOW - 1 :], torch.stack(owner).double(), rtol=0, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("mode", ["stateful", "window"])
def test_logarithms_differences_lags_and_covariates(tmp_path: Path, mode: str) -> None:
    lstm, head = network("lstm", size=4, outputs=2)
    values, load = series() + 20, series(seed=2)
    changes = (values.log1p()[1:] - values.log1p()[:-1] - 0.1) / 0.3
    columns = [(load[1:] - 5) / 2, changes, changes.roll(3), ((load - 5) / 2).roll(1)[1:]]
    inputs = torch.stack(columns, dim=1)[3:].float()  # complete from the fifth observation on
    owner, state = [], None
    for step in range(len(inputs)):
        if mode == "stateful":
            output, state = lstm(inputs[step].view(1, 1, -1), state)
        else:
            output = lstm(inputs[max(0, step + 1 - WINDOW) : step + 1].unsqueeze(0))[0]
        told = head(output[:, -1])[0].double() * 0.3 + 0.1
        owner.append((values[4 + step].log1p() + told.cumsum(0)).expm1())
    model = made(
        tmp_path, lstm, head, window=WINDOW if mode == "window" else 0, stateful=mode == "stateful",
        targets=["flow"], covariates=["load"], inputs=["load", "flow", "flow@3", "load@1"],
        log1p=True, difference=1, scale=[(0.1, 0.3), (5, 2)],
    )  # fmt: skip
    got = medians(model, torch.stack([values, load], dim=1), 2).squeeze(2)
    first = 4 + (WINDOW - 1 if mode == "window" else 0)
    assert bool(got[:first].isnan().all())
    torch.testing.assert_close(got[first:], torch.stack(owner).double()[first - 4 :], rtol=1e-5, atol=0)


@torch.inference_mode()
@pytest.mark.parametrize("mode", ["stateful", "window"])
def test_values_are_scaled_by_all_that_came_before(tmp_path: Path, mode: str) -> None:
    lstm, head = network("lstm", size=2, outputs=1)
    values, load = series(200) + 1000, series(200, seed=2)
    options = {"window": WINDOW} if mode == "window" else {"stateful": True}
    model = made(tmp_path, lstm, head, causal=True, covariates=["load"], scale=[(5, 2)], **options)
    means = torch.stack([values[: end + 1].mean() for end in range(200)])
    spreads = torch.stack([values[: end + 1].std(correction=0) if end else torch.ones(()) for end in range(200)])
    inputs = torch.stack([(values - means) / spreads, (load - 5) / 2], dim=1).float()
    if mode == "window":
        outputs = lstm(inputs.unfold(0, WINDOW, 1).transpose(1, 2))[0][:, -1]
    else:
        outputs = lstm(inputs.unsqueeze(0))[0][0]
    first = WINDOW - 1 if mode == "window" else 0
    owner = head(outputs)[:, 0].double() * spreads[first:] + means[first:]
    told = medians(model, torch.stack([values, load], dim=1), 1)[first:, 0, 0]
    torch.testing.assert_close(told, owner, rtol=1e-6, atol=0)
    flat = model.advance(model.initial_state(1), torch.full((1, WINDOW, 2), 0.1, dtype=torch.float64))
    assert bool(model.forecast(model.context(flat.state), 1).isfinite().all())


@torch.inference_mode()
@pytest.mark.parametrize("mode", ["stateful", "window"])
def test_points_are_fed_back_beside_the_covariates_ahead(tmp_path: Path, mode: str) -> None:
    lstm, head = network("gru", size=2, outputs=1)
    values, price = series(60), series(65, seed=3)
    rows = torch.stack([values, price[:60]], dim=1)
    options = {"window": WINDOW} if mode == "window" else {"stateful": True}
    model = made(
        tmp_path, lstm, head, rollout=5, covariates=["price"], scale=[(CENTRE, SCALE), (0, 10)], **options
    )  # fmt: skip
    seen = torch.stack([(values - CENTRE) / SCALE, price[:60] / 10], dim=1).float()
    owner = []
    for step in range(5):
        window = seen if mode == "stateful" else seen[-WINDOW:]
        point = head(lstm(window.unsqueeze(0))[0][:, -1])[0, 0]
        owner.append(point * SCALE + CENTRE)
        seen = torch.cat([seen, torch.stack([point, (price[60 + step] / 10).float()]).unsqueeze(0)])
    future = Future(covariates=price[60:65].view(1, 5, 1))
    trace = model.advance(model.initial_state(1), rows.unsqueeze(0))
    for context in (model.context(trace.state), trace.context(torch.tensor([0]), torch.tensor([60]))):
        told = model.forecast(context, 5, future)[0, :, 0, 0]
        torch.testing.assert_close(told, torch.stack(owner), rtol=0, atol=2e-5)
    before = model.advance(model.initial_state(1), rows[:-1].unsqueeze(0))
    within = trace.context(torch.tensor([0]), torch.tensor([59]))
    ends = model.forecast(within, 5, future), model.forecast(model.context(before.state), 5, future)
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-5)
    blind = model.forecast(model.context(trace.state), 5)[0, :, 0, 0]
    assert blind.isnan().tolist() == [False, True, True, True, True]


@torch.inference_mode()
def test_mean_and_spread_become_normal_quantiles(tmp_path: Path) -> None:
    lstm, head = network("lstm", outputs=4)
    model = made(
        tmp_path, lstm, head, stateful=True, output="normal", spread="softplus_deviation", scale=[(CENTRE, SCALE)],
        quantile_levels=[0.1, 0.5, 0.975],
    )  # fmt: skip
    values = series(30)
    numbers = head(lstm(((values - CENTRE) / SCALE).float().view(1, -1, 1))[0][:, -1])[0].view(2, 2)
    mean, deviation = numbers[:, 0] * SCALE + CENTRE, nn.functional.softplus(numbers[:, 1]) * SCALE
    trace = model.advance(model.initial_state(1), values.view(1, -1, 1))
    told = model.forecast(model.context(trace.state), 2)[0, :, :, 0]
    for level, quantile in ((0, -1.2815516), (1, 0.0), (2, 1.959964)):
        torch.testing.assert_close(told[:, level], mean + quantile * deviation, rtol=0, atol=1e-4)
    assert trace.pit.shape == (1, 30, 1)
    assert bool(trace.pit.isnan().all())


@torch.inference_mode()
@pytest.mark.parametrize("order", [("horizon", "target", "number"), ("number", "target", "horizon")], ids=["h", "n"])
def test_quantiles_come_in_the_order_of_training(tmp_path: Path, order: Sequence[str]) -> None:
    lstm, head = network("gru", size=2, outputs=2 * 2 * 3)
    model = made(
        tmp_path, lstm, head, stateful=True, targets=["a", "b"], quantile_levels=[0.1, 0.5, 0.9], output="quantile",
        order=order,
    )  # fmt: skip
    rows = torch.stack([series(9), series(9, 2)], dim=1)
    numbers = head(lstm(rows.float().unsqueeze(0))[0][:, -1])[0]
    shape = dict(zip(("horizon", "target", "number"), (2, 2, 3), strict=True))
    axes = [order.index(name) for name in ("horizon", "number", "target")]
    owner = numbers.view([shape[name] for name in order]).permute(axes).sort(dim=1).values
    told = model.forecast(model.context(model.advance(model.initial_state(1), rows.unsqueeze(0)).state), 2)[0]
    torch.testing.assert_close(told, owner)


@torch.inference_mode()
@pytest.mark.parametrize("embedded", [True, False], ids=["embedding", "one-hot"])
def test_symbols_get_probabilities(tmp_path: Path, embedded: bool) -> None:
    torch.manual_seed(0)
    embedding = nn.Embedding(3, 5) if embedded else None
    lstm, head = nn.LSTM(5 if embedded else 3, 8, batch_first=True), nn.Linear(8, 3)
    model = made(tmp_path, lstm, head, stateful=True, classes=["a", "b", "c"], embedding=embedding, missing="zero")
    text = torch.tensor([0, 2, 1, 1, 0])
    inputs = embedding(text) if embedding else nn.functional.one_hot(text, 3).float()
    owner = head(lstm(inputs.unsqueeze(0))[0][:, -1])[0].softmax(0)
    trace = model.advance(model.initial_state(1), text.double().view(1, -1, 1))
    torch.testing.assert_close(model.forecast(model.context(trace.state), 1)[0, 0, :, 0], owner)
    for wrong in (3.0, -1.0, 0.5):
        with pytest.raises(ObservationError, match="number of a class"):
            model.advance(model.initial_state(1), torch.tensor([[[wrong]]], dtype=torch.float64))


def rich(folder: Path, missing: str = "carry", **options: Any) -> Imported:
    lstm, head = network("lstm", size=4, outputs=2)
    return made(
        folder, lstm, head, targets=["flow"], covariates=["load"], missing=missing, difference=1, frequency="h",
        inputs=["flow@2", "load", "flow", "day_sin"], **{"scale": [(0, SCALE), (CENTRE, SCALE)], **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Imported]:
    folder = tmp_path_factory.mktemp("imported")
    modes: dict[str, dict[str, Any]] = {
        "stateful": {"stateful": True},
        "window": {"window": 4},
        "causal": {"stateful": True, "causal": True, "scale": [(CENTRE, SCALE)]},
        "own": {"window": 7, "per_window": "ddof0", "scale": [(CENTRE, SCALE)]},
    }
    return {
        f"{missing} {mode}": rich(folder, missing, name=f"{missing}-{mode}", **options)
        for missing in ("carry", "zero")
        for mode, options in modes.items()
    }


MODELS = [f"{missing} {mode}" for missing in ("carry", "zero") for mode in ("stateful", "window", "causal", "own")]
BEGIN, HOUR = 472_222 * 3_600_000_000_000, 3_600_000_000_000


def rows_of(seed: int, batch: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return observations, a fifth of them missing, and their times."""
    generator = torch.Generator().manual_seed(seed)
    rows = CENTRE + SCALE * torch.randn(batch, steps, 2, generator=generator, dtype=torch.float64)
    rows = rows.masked_fill(torch.rand(rows.shape, generator=generator) < 0.2, torch.nan)
    return rows, (BEGIN + HOUR * torch.arange(steps)).expand(batch, -1)


def assert_same(model: Imported, left: State, right: State) -> None:
    assert list(left) == list(right) == [part.name for part in model.layout.parts]
    for name, part in left.items():
        torch.testing.assert_close(part, right[name], rtol=1e-5, atol=1e-5, equal_nan=True)
    first, second = (model.forecast(model.context(each), model.config.horizon) for each in (left, right))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5, equal_nan=True)


@settings(max_examples=60)
@given(
    st.sampled_from(MODELS),
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.lists(st.integers(0, 20), min_size=1, max_size=6),
)
def test_any_split_gives_the_same_state(
    models: dict[str, Imported], which: str, seed: int, batch: int, pieces: list[int]
) -> None:
    model = models[which]
    rows, times = rows_of(seed, batch, sum(pieces))
    state, start = model.initial_state(batch), 0
    for piece in pieces:
        part = slice(start, start + piece)
        state, start = model.advance(state, rows[:, part], times=times[:, part]).state, start + piece
    assert_same(model, model.advance(model.initial_state(batch), rows, times=times).state, state)
    assert state["step"].tolist() == [sum(pieces)] * batch
    assert_same(model, state, model.layout.unpack(model.layout.pack(state)))


@settings(max_examples=40)
@given(
    st.sampled_from(MODELS),
    st.integers(0, 2**31),
    st.lists(st.lists(st.integers(0, 12), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_ragged_rows_end_where_they_would_alone(
    models: dict[str, Imported], which: str, seed: int, calls: list[list[int]]
) -> None:
    model = models[which]
    totals = [sum(call[row] for call in calls) for row in range(3)]
    rows, times = rows_of(seed, 3, max(totals))
    state, taken = model.initial_state(3), [0, 0, 0]
    for call in calls:
        block = torch.full((3, max(call), 2), 77.5, dtype=torch.float64)
        clock = torch.zeros(3, max(call), dtype=torch.int64)
        for row, length in enumerate(call):
            block[row, :length] = rows[row, taken[row] : taken[row] + length]
            clock[row, :length] = times[row, taken[row] : taken[row] + length]
            taken[row] += length
        state = model.advance(state, block, torch.tensor(call), times=clock).state
    for row, total in enumerate(totals):
        alone = model.advance(model.initial_state(1), rows[row : row + 1, :total], times=times[row : row + 1, :total])
        assert_same(model, alone.state, state.select([row]))


@pytest.mark.parametrize("which", MODELS)
def test_a_trace_goes_back_to_every_step(models: dict[str, Imported], which: str) -> None:
    model: StreamingModel = models[which]
    rows, times = rows_of(5, 2, 30)
    begun = model.advance(model.initial_state(2), rows[:, :2], times=times[:, :2]).state
    trace = model.advance(begun, rows[:, 2:], torch.tensor([28, 20]), times=times[:, 2:])
    at, steps = torch.tensor([0, 1, 0, 1, 0, 1]), torch.tensor([0, 20, 28, 5, 1, 2])
    got = model.forecast(trace.context(at, steps), 2)
    for answer, row, step in zip(got, at.tolist(), steps.tolist(), strict=True):
        one = slice(row, row + 1)
        state = model.advance(model.initial_state(1), rows[one, : 2 + step], times=times[one, : 2 + step]).state
        alone = model.forecast(model.context(state), 2)[0]
        torch.testing.assert_close(answer, alone, rtol=1e-5, atol=1e-5, equal_nan=True)
    with pytest.raises(ObservationError, match="steps"):
        trace.context(torch.tensor([1]), torch.tensor([21]))


@torch.inference_mode()
@pytest.mark.parametrize("mode", ["stateful", "window"])
@pytest.mark.parametrize("cell", [cell for cell in RECURRENT if cell != "projected lstm"])
def test_gates_end_in_the_hidden_state_of_their_step(tmp_path: Path, cell: str, mode: str) -> None:
    lstm, head = network(cell)
    model = made(tmp_path, lstm, head, window=4 if mode == "window" else 0, stateful=mode == "stateful")
    values = series(20).view(1, -1, 1)
    trace = model.advance(model.initial_state(1), values)
    seen = values[:, 5:9] if mode == "window" else values[:, :9]
    hidden = lstm(seen.float())[1]
    expected = (hidden[0] if isinstance(hidden, tuple) else hidden)[:, 0]
    torch.testing.assert_close(trace.gates(0, 9).hidden, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ObservationError, match="step"):
        trace.gates(0, 21)
    if mode == "window":
        with pytest.raises(ObservationError, match="has not run yet"):
            trace.gates(0, 3)


def test_a_projected_cell_tells_no_gates(tmp_path: Path) -> None:
    model = made(tmp_path, *network("projected lstm"), stateful=True)
    with pytest.raises(ObservationError, match="projected"):
        model.advance(model.initial_state(1), series(3).view(1, -1, 1)).gates(0, 2)


@torch.inference_mode()
def test_missing_values_are_refused_carried_forward_or_zero(tmp_path: Path) -> None:
    values = torch.tensor([3.0, torch.nan, torch.nan, 5.0], dtype=torch.float64).view(1, -1, 1)
    filled = {"carry": [3.0, 3.0, 3.0, 5.0], "zero": [3.0, CENTRE, CENTRE, 5.0]}
    for missing, whole in filled.items():
        model = made(tmp_path, *network("gru"), stateful=True, scale=[(CENTRE, SCALE)], missing=missing)
        expected = model.advance(model.initial_state(1), torch.tensor(whole).double().view(1, -1, 1)).state
        state = model.advance(model.initial_state(1), values[:, :2]).state
        torch.testing.assert_close(model.advance(state, values[:, 2:]).state["hidden"], expected["hidden"])
    model = made(tmp_path, *network("gru"), stateful=True)
    with pytest.raises(ObservationError, match="pump refuses missing values"):
        model.advance(model.initial_state(1), values)
    model.advance(model.initial_state(1), values, torch.tensor([1]))  # what is beyond a session's own does not count


def test_values_below_the_logarithm_are_refused(tmp_path: Path) -> None:
    model = made(tmp_path, *network("gru"), stateful=True, log1p=True)
    with pytest.raises(ObservationError, match="greater than -1"):
        model.advance(model.initial_state(1), torch.tensor([[[-1.0]]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("shape", "lengths", "message"),
    [
        ((1, 2, 2), None, "values"),
        ((2, 1), None, "values"),
        ((1, 2, 1), [3], "lengths"),
        ((1, 2, 1), [1, 1], "lengths"),
    ],
    ids=["width", "rank", "too long", "too many"],
)
def test_wrong_shapes_are_named(
    tmp_path: Path, shape: tuple[int, ...], lengths: list[int] | None, message: str
) -> None:
    model = made(tmp_path, *network("gru"), stateful=True)
    with pytest.raises(ObservationError, match=message):
        model.advance(
            model.initial_state(1),
            torch.zeros(shape, dtype=torch.float64),
            None if lengths is None else torch.tensor(lengths),
        )
    with pytest.raises(ObservationError, match="horizon"):
        model.forecast(model.context(model.initial_state(1)), 4)


def test_the_digest_changes_with_weights_and_choices(tmp_path: Path) -> None:
    lstm, head = network("lstm")
    same = {made(tmp_path / name, lstm, head, stateful=True, version="1").digest for name in "ab"}
    other = made(tmp_path / "c", lstm, head, stateful=True, version="1", missing="zero")
    with torch.no_grad():
        next(head.parameters()).add_(1)
    changed = made(tmp_path / "d", lstm, head, stateful=True, version="1")
    assert len(same) == 1
    assert len({*same, other.digest, changed.digest}) == 3
