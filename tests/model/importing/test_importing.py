"""What is imported from modules and files, and what is refused, by the name of its tensor."""

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from statecast.model import (
    ConfigError,
    Imported,
    ModelError,
    WeightsError,
    import_torch,
    import_weights,
    load_model,
)


class Tutorial(nn.Module):
    """A module as tutorials write it."""

    def __init__(self, layers: int = 2, outputs: int = 4) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 8, layers, batch_first=True)
        self.fc1 = nn.Linear(8, 6)
        self.fc2 = nn.Linear(6, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        output, _ = self.lstm(inputs)
        result: Tensor = self.fc2(torch.relu(self.fc1(output[:, -1])))
        return result


def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return copy.deepcopy(dict(Tutorial().state_dict()))


CHOICES: dict[str, Any] = {"name": "pump", "window": 8, "activations": ["relu", "identity"]}


def loaded(folder: Path) -> Imported:
    model = load_model(folder)
    assert isinstance(model, Imported)
    return model


def forecast(model: Imported, values: Tensor) -> Tensor:
    with torch.inference_mode():
        state = model.advance(model.initial_state(1), values.double().view(1, -1, 1)).state
        return model.forecast(model.context(state), model.config.horizon)[0, :, 0, 0]


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["safetensors", "pt", "lightning"])
def test_sizes_come_from_the_tensors_of_a_file(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    module, values = Tutorial(), torch.randn(8)
    path = tmp_path / f"weights.{'ckpt' if kind == 'lightning' else kind}"
    if kind == "safetensors":
        save_file(module.state_dict(), path)
    elif kind == "pt":
        torch.save(module.state_dict(), path)
    else:
        inner = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
        torch.save({"epoch": 3, "state_dict": inner, "optimizer_states": [{"lr": 0.1}]}, path)
    folder = import_weights(path, models=tmp_path / "models", **CHOICES)
    assert folder == tmp_path / "models" / "pump" / "1"
    model = loaded(folder)
    config = model.config
    assert (config.cell, config.layers, config.hidden_size, config.horizon) == ("lstm", 2, 8, 4)
    torch.testing.assert_close(forecast(model, values), module(values.view(1, -1, 1))[0], rtol=0, atol=1e-6)
    again = import_weights(path, models=tmp_path / "models", **CHOICES)
    assert again.name == "2"
    with pytest.raises(ConfigError, match="exists already"):
        import_weights(path, models=tmp_path / "models", version="2", **CHOICES)


@torch.inference_mode()
def test_cells_one_above_the_other_are_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lower, upper, head = nn.LSTMCell(1, 8).double(), nn.LSTMCell(8, 8).double(), nn.Linear(8, 1).double()
    values = torch.randn(20, dtype=torch.float64)
    states = [(torch.zeros(1, 8).double(), torch.zeros(1, 8).double()) for _ in range(2)]
    for value in values:
        states[0] = lower(value.view(1, 1), states[0])
        states[1] = upper(states[0][0], states[1])
    owner = head(states[1][0])[0].float()
    folder = import_torch([lower, upper], head, name="sine", models=tmp_path, stateful=True)
    torch.testing.assert_close(forecast(loaded(folder), values), owner, rtol=0, atol=1e-6)
    module = nn.ModuleDict({"lstm1": lower, "lstm2": upper, "linear": head})
    torch.save(module.state_dict(), tmp_path / "sine.pt")
    folder = import_weights(tmp_path / "sine.pt", name="sine", models=tmp_path, stateful=True)
    torch.testing.assert_close(forecast(loaded(folder), values), owner, rtol=0, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN], ids=["lstm", "gru", "rnn"])
@pytest.mark.parametrize("sizes", [(9, 4, 6), (3, 8)], ids=["narrow", "wide"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "none"])
def test_layers_of_different_sizes(tmp_path: Path, kind: Any, sizes: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layers = [kind(below, size, bias=bias, batch_first=True) for below, size in pairwise((1, *sizes))]
    head, values = nn.Linear(sizes[-1], 2), torch.randn(30)
    output = values.view(1, -1, 1)
    for layer in layers:
        output, _ = layer(output)
    folder = import_torch(layers, head, name="pump", models=tmp_path, stateful=True)
    torch.testing.assert_close(forecast(loaded(folder), values), head(output[0, -1]), rtol=0, atol=1e-6)


def without(name: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda found: [found.pop(name)]


def put(name: str, *shape: int, value: float = 0.1) -> Callable[[dict[str, Tensor]], None]:
    return lambda found: found.update({name: torch.full(shape, value)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("lstm.weight_ih_l0_reverse", 32, 1), "lstm.weight_ih_l0_reverse: the network is bidirectional"),
        (put("norm.running_mean", 8), "norm.running_mean: belongs to no layer"),
        (put("conv.weight", 8, 1, 3), "conv.weight: belongs to no layer"),
        (put("fc1.weight", 6, 8, value=torch.nan), "fc1.weight: holds NaN"),
        (put("fc1.weight", 6, 64), "fc1.weight: takes 64 inputs, but what is below .lstm.weight_ih_l1. has 8 outputs"),
        (put("fc1.bias", 5), "fc1.weight: its bias has 5 numbers, not 6"),
        (put("lstm.weight_ih_l0", 32, 3), r"lstm.weight_ih_l0: takes 3 inputs at each step, but there are 1 \(value\)"),
        (put("lstm.weight_ih_l1", 32, 9), "lstm.weight_ih_l1: takes 9 inputs, but the layer below .* has 8 outputs"),
        (put("lstm.bias_hh_l0", 24), "lstm.bias_hh_l0: expected 32 rows as lstm.weight_ih_l0, got 24"),
        (put("lstm.weight_hh_l0", 32, 7), "lstm.weight_ih_l0: 32 rows are not 4 .* times the hidden size of 7"),
        (put("lstm.weight_hh_l0", 32, 8, 1), "lstm.weight_hh_l0: expected two dimensions"),
        (put("gru.weight_ih_l0", 24, 8), "gru.weight_ih_l0: the same layer's weight_hh is missing"),
        (without("lstm.weight_hh_l1"), "lstm.weight_ih_l1: the same layer's weight_hh is missing"),
        (lambda found: [found.pop(each) for each in list(found) if "lstm" in each], "no tensor is named like"),
        (lambda found: [found.pop(each) for each in list(found) if "fc" in each], "there is no linear layer"),
    ],
    ids=[
        "bidirectional", "normalised", "convolved", "nan", "flattened", "bias", "inputs", "stack", "rows", "hidden",
        "rank", "half", "missing", "no lstm", "no head",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], message: str) -> None:
    found = tensors()
    change(found)
    torch.save(found, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=message):
        import_weights(tmp_path / "weights.pt", models=tmp_path / "models", **CHOICES)
    assert not list((tmp_path).glob("models/*/*"))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"window": 0}, "window: name the way of training"),
        ({"stateful": True}, "window: name the way of training"),
        ({"activations": None}, r"activations: the head has 2 linear layers \(fc1.weight, fc2.weight\); name"),
        ({"activations": ["relu"]}, "activations: expected 2"),
        ({"activations": ["relu", "relux"]}, "head_activations: expected some of .* got 'relux'"),
        ({"scale": [(1, 2), (3, 4)]}, "scale: expected a pair of numbers for each of value, got 2"),
        ({"scale": [(1, 0)]}, "scale: expected a scale above 0 for value"),
        ({"scale": [(1, 2)], "min_max": [(1, 2)]}, "scale: leave out either"),
        ({"min_max": [(5, 5)]}, "min_max: expected a high value above the low one for value"),
        ({"min_max": [(1, 5)], "min_max_range": (1, 1)}, "min_max_range: expected two ascending"),
        ({"inputs": ["vlaue"]}, "inputs: 'vlaue' is none of value"),
        ({"inputs": ["value@x"]}, "inputs: 'value@x' is none of value"),
        ({"inputs": ["day_sin"]}, "features: day_sin needs a frequency"),
        ({"targets": ["a", "b", "c"], "inputs": ["a"]}, "fc2.weight: 4 outputs are no whole steps of 3 targets"),
        ({"output": "quantile"}, "quantile_levels: name the levels"),
        ({"quantile_levels": [0.1]}, "quantile_levels: of points only 0.5"),
        ({"output": "normal", "spread": "sigma"}, "spread: expected one of 'variance', 'log_variance'"),
        ({"output": "guess"}, "output: expected one of 'point'"),
        ({"missing": "drop"}, "missing: expected one of 'refuse'"),
        ({"rollout": 5}, "rollout: the head forecasts 4 steps itself"),
        ({"frequency": "hourly"}, "frequency: "),
        ({"covariates": ["value"], "inputs": ["value"]}, "covariates: targets and covariates need different names"),
        ({"order": ["target", "horizon"]}, "order: expected horizon, target, number"),
        ({"name": "my pump"}, "name: expected letters"),
        ({"nonlinearity": "relu", "version": "a b"}, "version: expected letters"),
        ({"classes": ["a"]}, "takes 1 inputs|classes: expected two"),
    ],
    ids=[
        "no mode", "two modes", "no activations", "few activations", "unknown activation", "scales", "scale 0", "two",
        "flat", "range", "input", "lag", "calendar", "steps", "levels", "points", "spread", "output", "missing",
        "rollout", "frequency", "names", "order", "name", "version", "classes",
    ],
)  # fmt: skip
def test_choices_that_do_not_fit_are_named(tmp_path: Path, choices: dict[str, Any], message: str) -> None:
    torch.save(tensors(), tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=message):
        import_weights(tmp_path / "weights.pt", models=tmp_path / "models", **{**CHOICES, **choices})


@pytest.mark.parametrize(
    ("lstm", "head", "message"),
    [
        (nn.LSTM(1, 8, bidirectional=True), nn.Linear(16, 1), "weight_ih_l0_reverse: the network is bidirectional"),
        (nn.Linear(1, 8), nn.Linear(8, 1), "lstm: expected torch.nn.LSTM, GRU or RNN.* got Linear"),
        (nn.LSTM(1, 8), nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 1)), "head.0: BatchNorm1d cannot be imported"),
        (nn.LSTM(1, 8), nn.Sequential(nn.Linear(8, 2), nn.LeakyReLU(0.2)), "head.1: negative_slope must be 0.01"),
        (nn.LSTM(1, 8), nn.Sequential(nn.Linear(8, 1), nn.ReLU(), nn.Tanh()), "head.2: Tanh follows another function"),
        (nn.LSTM(1, 8), nn.ReLU(), "head: expected a torch.nn.Linear"),
        (nn.LSTM(1, 8), nn.Linear(9, 1), "head.weight: takes 9 inputs"),
        ([nn.LSTM(1, 8), nn.GRU(8, 8)], nn.Linear(8, 1), "GRU.1.weight_ih_l0: gru above lstm .LSTM.0.weight_ih_l0."),
    ],
    ids=["bidirectional", "no lstm", "norm", "slope", "twice", "no linear", "size", "sizes"],
)  # fmt: skip
def test_modules_that_do_not_fit_are_named(tmp_path: Path, lstm: Any, head: nn.Module, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        import_torch(lstm, head, name="pump", models=tmp_path, stateful=True)


def test_a_file_is_read_without_executing_it(tmp_path: Path) -> None:
    torch.save(Tutorial(), tmp_path / "whole.pt")
    with pytest.raises(WeightsError, match="save only the weights"):
        import_weights(tmp_path / "whole.pt", models=tmp_path, **CHOICES)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:100])
    (tmp_path / "cut.safetensors").write_bytes(b"nothing")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, message in (
        ("cut.pt", "cannot be read"),
        ("cut.safetensors", "cannot be read"),
        ("absent.pt", "cannot be read"),
        ("list.pt", "expected a state dict"),
        ("weights.h5", "expected a file .safetensors"),
    ):
        with pytest.raises(WeightsError, match=message):
            import_weights(tmp_path / name, models=tmp_path, **CHOICES)
