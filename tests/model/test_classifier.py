"""The classifier: streaming, probabilities and files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from statecast.model import (
    Classifier,
    ClassifierConfig,
    ConfigError,
    Forecaster,
    ObservationError,
    State,
    StreamingModel,
    WeightsError,
    load_model,
    save_model,
)

CELLS = ("lstm", "gru", "rnn")
CLASSES = ("a", "b", " ", "\n", "word")


def make(cell: str = "lstm", **changes: Any) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values: dict[str, Any] = {"name": "tiny", "version": "1", "layers": 2, "hidden_size": 8, "classes": CLASSES}
        config = ClassifierConfig(**{**values, "cell": cell, "horizon": 3, **changes})
        model = Classifier(config)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    return model.eval()


MODELS = {cell: make(cell) for cell in CELLS}


def symbols(seed: int, batch: int, steps: int, missing: float = 0.2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, len(CLASSES), (batch, steps, 1), generator=generator).double()
    return torch.where(torch.rand(numbers.shape, generator=generator) < missing, torch.nan, numbers)


def assert_same(model: Classifier, left: State, right: State) -> None:
    assert list(left) == list(right)
    for name, part in left.items():
        torch.testing.assert_close(part, right[name], rtol=1e-5, atol=1e-5)
    first, second = (model.forecast(model.context(each), model.config.horizon) for each in (left, right))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


@settings(max_examples=60)
@given(
    st.sampled_from(CELLS),
    st.integers(0, 2**31),
    st.integers(1, 4),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_split_gives_the_same_state(cell: str, seed: int, batch: int, pieces: list[int], missing: float) -> None:
    model = MODELS[cell]
    values = symbols(seed, batch, sum(pieces), missing)
    state = model.initial_state(batch)
    for piece in values.split(pieces, dim=1):  # type: ignore[no-untyped-call]
        state = model.advance(state, piece).state
    assert_same(model, model.advance(model.initial_state(batch), values).state, state)
    assert state["step"].tolist() == [sum(pieces)] * batch


@settings(max_examples=40)
@given(
    st.sampled_from(CELLS),
    st.integers(0, 2**31),
    st.lists(st.lists(st.integers(0, 25), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_ragged_rows_end_where_they_would_alone(cell: str, seed: int, calls: list[list[int]]) -> None:
    model = MODELS[cell]
    totals = [sum(call[row] for call in calls) for row in range(3)]
    values = symbols(seed, 3, max(totals))
    state, taken = model.initial_state(3), [0, 0, 0]
    for call in calls:
        block = torch.full((3, max(call), 1), 77.5, dtype=torch.float64)
        for row, length in enumerate(call):
            block[row, :length] = values[row, taken[row] : taken[row] + length]
            taken[row] += length
        state = model.advance(state, block, torch.tensor(call)).state
    for row, total in enumerate(totals):
        alone = model.advance(model.initial_state(1), values[row : row + 1, :total])
        assert_same(model, alone.state, state.select(torch.tensor([row])))


@pytest.mark.parametrize("cell", CELLS)
def test_a_trace_goes_back_to_every_step(cell: str) -> None:
    model = MODELS[cell]
    values = symbols(3, 2, 30)
    begun = model.advance(model.initial_state(2), values[:, :10]).state
    trace = model.advance(begun, values[:, 10:], torch.tensor([20, 12]))
    rows, steps = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 12, 20, 5])
    got = model.forecast(trace.context(rows, steps), 3)
    for answer, row, step in zip(got, rows.tolist(), steps.tolist(), strict=True):
        state = model.advance(model.initial_state(1), values[row : row + 1, : 10 + step]).state
        torch.testing.assert_close(answer, model.forecast(model.context(state), 3)[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ObservationError, match="steps"):
        trace.context(torch.tensor([1]), torch.tensor([13]))


@pytest.mark.parametrize("cell", CELLS)
def test_gates_end_in_the_state_that_follows(cell: str) -> None:
    model = MODELS[cell]
    values = symbols(4, 2, 12)
    trace = model.advance(model.initial_state(2), values, torch.tensor([12, 7]))
    gates = trace.gates(1, 7)
    torch.testing.assert_close(gates.hidden, trace.state["hidden"][1], rtol=1e-5, atol=1e-5)
    assert gates.values.shape == (2, len(gates.names), 8)
    assert (gates.cell is None) == (cell != "lstm")
    with pytest.raises(ObservationError, match="step"):
        trace.gates(1, 8)


def test_forecasts_are_distributions_before_any_symbol_and_after() -> None:
    model: StreamingModel = MODELS["lstm"]
    trace = model.advance(model.initial_state(4), symbols(0, 4, 9))
    rows = torch.arange(4)
    for steps in (torch.zeros(4, dtype=torch.int64), torch.full((4,), 9)):
        forecast = model.forecast(trace.context(rows, steps), 2)
        assert forecast.shape == (4, 2, len(CLASSES), 1)
        assert forecast.dtype == torch.float32
        assert not forecast.requires_grad
        torch.testing.assert_close(forecast.sum(2), torch.ones(4, 2, 1))
        assert bool((forecast > 0).all())
    assert trace.pit.shape == (4, 9, 1)
    assert bool(trace.pit.isnan().all())


def test_a_missing_symbol_is_not_any_of_the_classes() -> None:
    model = MODELS["lstm"]
    each = torch.tensor([*range(len(CLASSES)), torch.nan], dtype=torch.float64).view(-1, 1, 1)
    hidden = model.advance(model.initial_state(len(each)), each).state["hidden"][:, -1]
    assert len({tuple(row) for row in hidden.tolist()}) == len(CLASSES) + 1


@pytest.mark.parametrize("value", [-1.0, 5.0, 0.5, 1e300, torch.inf, -torch.inf])
def test_what_is_not_a_class_is_refused(value: float) -> None:
    model = MODELS["lstm"]
    values = torch.zeros(2, 3, 1, dtype=torch.float64)
    values[1, 2] = value
    with pytest.raises(ObservationError, match="number of a class, 0 to 4"):
        model.advance(model.initial_state(2), values)


@pytest.mark.parametrize(
    ("values", "lengths", "field"),
    [
        (torch.zeros(2, 3, 1), None, "values"),
        (torch.zeros(2, 3, dtype=torch.float64), None, "values"),
        (torch.zeros(2, 3, 2, dtype=torch.float64), None, "values"),
        (torch.zeros(3, 3, 1, dtype=torch.float64), None, "values"),
        (torch.zeros(2, 3, 1, dtype=torch.float64), torch.tensor([1]), "lengths"),
        (torch.zeros(2, 3, 1, dtype=torch.float64), torch.tensor([4, 0]), "lengths"),
    ],
)
def test_bad_shapes_are_refused_by_name(values: Tensor, lengths: Tensor | None, field: str) -> None:
    model = MODELS["lstm"]
    with pytest.raises(ObservationError, match=field):
        model.advance(model.initial_state(2), values, lengths)


@pytest.mark.parametrize("horizon", [0, 4])
def test_a_horizon_out_of_range_is_refused(horizon: int) -> None:
    model = MODELS["lstm"]
    with pytest.raises(ObservationError, match="horizon"):
        model.forecast(model.context(model.initial_state(1)), horizon)


def test_symbols_and_their_numbers() -> None:
    config = MODELS["lstm"].config
    assert config.numbers("ab \n").tolist() == [0, 1, 2, 3]
    assert config.numbers(["word", "a"]).tolist() == [4, 0]
    with pytest.raises(ObservationError, match="'z' is none of the 5"):
        config.numbers("az")


@pytest.mark.parametrize(
    "classes", [(), ("a",), ("a", "a"), ("a", ""), ("a", "\r"), ("a", "b\n"), ("a", "b" * 257), ("a", 1), "ab"]
)
def test_classes_are_two_or_more_different_printable_symbols(classes: Any) -> None:
    with pytest.raises(ConfigError, match="classes"):
        ClassifierConfig(name="m", version="1", classes=classes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(make(), tmp_path)
    return tmp_path


def test_a_classifier_comes_back_as_it_was(folder: Path) -> None:
    model, loaded = make(), load_model(folder)
    assert isinstance(loaded, Classifier)
    assert (loaded.config, loaded.digest, loaded.training) == (model.config, model.digest, False)
    assert make(version="2").digest != model.digest
    assert make(classes=("b", "a", " ", "\n", "word")).digest != model.digest
    assert json.loads((folder / "config.json").read_text())["kind"] == "classifier"
    state = loaded.advance(loaded.initial_state(2), symbols(1, 2, 20)).state
    packed = loaded.layout.pack(state)
    assert_same(loaded, state, loaded.layout.unpack(packed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(kind="oracle"), "kind: expected 'classifier' or 'imported', got 'oracle'"),
        (lambda config: config.update(kind=["classifier"]), "kind: expected 'classifier' or 'imported'"),
        (lambda config: config.pop("kind"), "unknown key|missing key"),
        (lambda config: config.update(targets=["a"]), "targets: unknown key"),
        (lambda config: config.pop("classes"), "classes: missing key"),
        (lambda config: config.update(horizon=0), "horizon: expected a whole number"),
        (lambda config: config.update(cell="tape"), "cell: expected one of"),
        (lambda config: config.update(horizon=10_000, classes=list("abcdefghijk")), "horizon: times classes"),
    ],
)
def test_a_wrong_configuration_is_refused_by_key_and_file(
    folder: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message) as caught:
        load_model(folder)
    assert "config.json" in str(caught.value)


def test_weights_of_other_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    save_model(make(classes=("a", "b")), tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(WeightsError, match="expected shape"):
        load_model(folder)


def test_without_a_kind_it_is_a_forecaster_of_quantiles(
    random_model: Callable[..., Forecaster], tmp_path: Path
) -> None:
    save_model(random_model(), tmp_path)
    assert "kind" not in json.loads((tmp_path / "config.json").read_text())
    assert isinstance(load_model(tmp_path), Forecaster)
