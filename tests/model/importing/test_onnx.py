"""Graphs that torch and onnx have written, beside onnxruntime."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from statecast.model import ConfigError, Imported, WeightsError, import_weights, load_model

WINDOW, STEPS, HIDDEN, INPUTS, OUTPUTS = 12, 1000, 6, 1, 3
CENTRE, SCALE = 20.0, 4.0
VALUES = torch.from_numpy(CENTRE + SCALE * np.sin(np.arange(STEPS) / 5) + np.random.default_rng(0).normal(size=STEPS))
SCALED = ((VALUES - CENTRE) / SCALE).float()


class Network(nn.Module):
    """A module as people write it; it returns its state, too, if it is given one."""

    def __init__(self, recurrent: nn.LSTM | nn.GRU | nn.RNN, head: nn.Module, *, reads_state: bool = False) -> None:
        super().__init__()
        self.recurrent, self.head, self.reads_state = recurrent, head, reads_state

    def forward(self, inputs: Tensor, *state: Tensor) -> Any:
        given = (state if len(state) > 1 else state[0]) if state else None
        outputs, after = self.recurrent(inputs, given)
        last = (after[0] if isinstance(after, tuple) else after)[-1] if self.reads_state else outputs[:, -1]
        told = self.head(last)
        return (told, *(after if isinstance(after, tuple) else (after,))) if state else told


def deep_head() -> nn.Module:
    return nn.Sequential(
        nn.ReLU(), nn.Linear(HIDDEN, 7), nn.SiLU(), nn.Dropout(), nn.Linear(7, 4, bias=False), nn.LeakyReLU(),
        nn.Linear(4, OUTPUTS), nn.Sigmoid(),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], Network]] = {
    "two lstms": lambda: Network(nn.LSTM(INPUTS, HIDDEN, 2, batch_first=True), nn.Linear(HIDDEN, OUTPUTS)),
    "gru": lambda: Network(nn.GRU(INPUTS, HIDDEN, batch_first=True), deep_head(), reads_state=True),
    "relu rnn": lambda: Network(
        nn.RNN(INPUTS, HIDDEN, 2, nonlinearity="relu", bias=False, batch_first=True),
        nn.Linear(HIDDEN, OUTPUTS, bias=False),
    ),
}


def export(network: nn.Module, arguments: tuple[Tensor, ...], path: Path, *, dynamo: bool, **options: Any) -> Path:
    """Write the network by one of torch's two exporters."""
    exporter: Any = torch.onnx.export
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its older exporter
        exporter(
            network.eval(), arguments, str(path), dynamo=dynamo, **({"verbose": False} if dynamo else {}), **options
        )
    return path


def exported(folder: Path, network: Network, *, dynamo: bool) -> Path:
    """Write a network that takes a window of one series, as the exporters do unless they are told more."""
    return export(network, (torch.zeros(1, WINDOW, INPUTS),), folder / "network.onnx", dynamo=dynamo)


def imported(path: Path, **choices: Any) -> Imported:
    choices = {"name": "pump", "models": path.parent / "models", "scale": [(CENTRE, SCALE)], **choices}
    model = load_model(import_weights(path, **choices))
    assert isinstance(model, Imported)
    return model


def forecasts(model: Imported, first: int) -> Tensor:
    """Return the model's points after each step from `first` on, [steps, outputs]."""
    with torch.inference_mode():
        trace = model.advance(model.initial_state(1), VALUES.view(1, -1, 1))
        steps = torch.arange(first, STEPS + 1)
        return model.forecast(trace.context(torch.zeros_like(steps), steps), OUTPUTS)[:, :, 0, 0]


@pytest.mark.parametrize(
    ("name", "dynamo"), [("two lstms", True), ("two lstms", False), ("gru", False), ("relu rnn", False)]
)
def test_windows_are_forecast_as_onnxruntime_does(tmp_path: Path, name: str, dynamo: bool) -> None:
    torch.manual_seed(0)
    path = exported(tmp_path, NETWORKS[name](), dynamo=dynamo)
    session = onnxruntime.InferenceSession(path)
    windows = SCALED.unfold(0, WINDOW, 1).view(-1, 1, WINDOW, 1).numpy()
    told = [session.run(None, {session.get_inputs()[0].name: window})[0] for window in windows]
    owner = torch.from_numpy(np.concatenate(told)) * SCALE + CENTRE
    torch.testing.assert_close(forecasts(imported(path, window=WINDOW), WINDOW), owner, rtol=0, atol=1e-5)


def test_a_carried_state_forecasts_as_onnxruntime_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network(nn.LSTM(INPUTS, HIDDEN, batch_first=True), nn.Linear(HIDDEN, OUTPUTS))
    zeros = torch.zeros(1, 1, HIDDEN)
    path = export(network, (torch.zeros(1, 1, INPUTS), zeros, zeros.clone()), tmp_path / "network.onnx", dynamo=False)
    session = onnxruntime.InferenceSession(path)
    names, state, owner = [each.name for each in session.get_inputs()], [zeros.numpy()] * 2, []
    for value in SCALED:
        told, *state = session.run(None, dict(zip(names, [value.view(1, 1, 1).numpy(), *state], strict=True)))
        owner.append(torch.from_numpy(told[0]) * SCALE + CENTRE)
    torch.testing.assert_close(forecasts(imported(path, stateful=True), 1), torch.stack(owner), rtol=0, atol=1e-5)


def test_symbols_behind_an_embedding(tmp_path: Path) -> None:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.lstm, self.head = nn.Embedding(3, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, text: Tensor) -> Tensor:
            logits: Tensor = self.head(self.lstm(self.embedding(text))[0][:, -1])
            return logits.softmax(dim=-1)

    torch.manual_seed(0)
    text, network = torch.tensor([[0, 2, 1, 1, 0]]), Text()
    export(network, (text,), tmp_path / "text.onnx", dynamo=False)
    options: dict[str, Any] = {"name": "text", "models": tmp_path, "stateful": True}
    model = load_model(import_weights(tmp_path / "text.onnx", classes=["a", "b", "c"], **options))
    assert isinstance(model, Imported)
    with torch.inference_mode():
        state = model.advance(model.initial_state(1), text.double().unsqueeze(2)).state
        told = model.forecast(model.context(state), 1)[0, 0, :, 0]
        torch.testing.assert_close(told, network(text)[0], rtol=0, atol=1e-6)
    with pytest.raises(WeightsError, match="softmax cannot stand there"):
        import_weights(tmp_path / "text.onnx", **options)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    random = np.random.default_rng(len(name))
    return numpy_helper.from_array(random.normal(0, 0.4, shape).astype(np.float32), name)


def graph(
    path: Path, kind: str = "LSTM", recurrent: dict[str, Any] | None = None, inputs: Sequence[str] = (),
    before: Sequence[onnx.NodeProto] = (), head: Sequence[onnx.NodeProto] | None = None, last: int = -1,
    more: Sequence[onnx.TensorProto] = (), reads: str = "x",
) -> Path:  # fmt: skip
    """Write a graph [time, series, inputs] by hand: a recurrent node, its last step, and MatMul and Add."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    weights = [
        weight("W", 1, gates * HIDDEN, INPUTS), weight("R", 1, gates * HIDDEN, HIDDEN),
        weight("B", 1, 2 * gates * HIDDEN),
        weight("V", HIDDEN, OUTPUTS), weight("c", OUTPUTS), numpy_helper.from_array(np.array(last), "last"),
        numpy_helper.from_array(np.array([1]), "one"), *more,
    ]  # fmt: skip
    settings = {"hidden_size": HIDDEN, **({"linear_before_reset": 1} if kind == "GRU" else {}), **(recurrent or {})}
    tail = [helper.make_node("MatMul", ["l", "V"], ["m"], "times"), helper.make_node("Add", ["c", "m"], ["y"], "plus")]
    nodes = [
        *before, helper.make_node(kind, [reads, "W", "R", "B", *inputs], ["Y"], "the layer", **settings),
        helper.make_node("Squeeze", ["Y", "one"], ["s"]), helper.make_node("Gather", ["s", "last"], ["l"], axis=0),
        *(tail if head is None else head),
    ]  # fmt: skip
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "series", INPUTS])
    told = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["series", OUTPUTS])
    made = helper.make_graph(nodes, "by hand", [given], [told], weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_graph_made_by_hand_with_time_first(tmp_path: Path, kind: str) -> None:
    path = graph(tmp_path / "hand.onnx", kind)
    windows = SCALED.unfold(0, WINDOW, 1).T.unsqueeze(2).numpy()
    owner = onnxruntime.InferenceSession(path).run(None, {"x": windows})[0]
    told = forecasts(imported(path, window=WINDOW), WINDOW)
    torch.testing.assert_close(told, torch.from_numpy(owner) * SCALE + CENTRE, rtol=0, atol=1e-5)


def node(kind: str, inputs: Sequence[str], output: str, name: str, **settings: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name, **settings)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "backwards": ({"recurrent": {"direction": "reverse"}}, "the layer: direction must be forward, got reverse"),
    "reset before": (
        {"kind": "GRU", "recurrent": {"linear_before_reset": 0}}, "the layer: linear_before_reset must be 1, got 0"
    ),
    "functions": (
        {"recurrent": {"activations": ["Sigmoid", "Relu", "Tanh"]}}, "the layer: activations must be .*Sigmoid"
    ),
    "clip": ({"recurrent": {"clip": 3.0}}, "the layer: clip must be 0.0, got 3.0"),
    "coupled": ({"recurrent": {"input_forget": 1}}, "the layer: input_forget must be 0, got 1"),
    "peepholes": (
        {"inputs": ["", "", "", "P"], "more": [weight("P", 1, 3 * HIDDEN)]}, "the layer: peepholes cannot be imported"
    ),
    "lengths": (
        {"inputs": ["n"], "more": [numpy_helper.from_array(np.array([3], np.int32), "n")]},
        "the layer: sequence_lens cannot be imported",
    ),
    "another step": ({"last": 0}, "the graph does more than its layers: its output 'y' differs by .* another step"),
    "first state": (
        {"inputs": ["", "h"], "more": [weight("h", 1, 1, HIDDEN)]}, "the layer: begins with another state than zero"
    ),
    "scaled": (
        {"before": [node("Mul", ["x", "k"], "z", "scaling")], "reads": "z", "more": [weight("k", 1)]},
        "scaling: Mul before the layer cannot be imported; scale the inputs outside of the graph",
    ),
    "normalised": (
        {"head": [node("LayerNormalization", ["l", "g"], "y", "norm")], "more": [weight("g", HIDDEN)]},
        "norm: LayerNormalization cannot be imported; expected LSTM, GRU, RNN, then linear layers",
    ),
    "no head": ({"head": [node("Relu", ["l"], "y", "only")]}, "no output is made by linear layers"),
    "two functions": (
        {"head": [node("Relu", ["l"], "a", "1"), node("Tanh", ["a"], "b", "2"), node("MatMul", ["b", "V"], "y", "3")]},
        "tanh cannot stand there; one function can follow",
    ),
    "leaky": (
        {"head": [node("MatMul", ["l", "V"], "a", "1"), node("LeakyRelu", ["a"], "y", "leak", alpha=0.2)]},
        "leak: alpha must be 0.01, got 0.2",
    ),
    "sum": (
        {"head": [node("MatMul", ["l", "V"], "a", "1"), node("Add", ["a", "a"], "y", "sum")]},
        "sum: its weight 'a' is no constant",
    ),
    "weights of NaN": (
        {"head": [node("MatMul", ["l", "N"], "y", "nan")],
         "more": [numpy_helper.from_array(np.full((HIDDEN, OUTPUTS), np.nan, np.float32), "N")]},
        "nan: 'N' holds NaN or infinite values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_imported_is_named(tmp_path: Path, case: str) -> None:
    options, message = REFUSED[case]
    with pytest.raises(WeightsError, match=message):
        imported(graph(tmp_path / "network.onnx", **options), window=WINDOW)
    assert not (tmp_path / "models" / "pump").exists()


def test_a_graph_of_other_steps_than_the_window(tmp_path: Path) -> None:
    path = exported(tmp_path, NETWORKS["two lstms"](), dynamo=False)
    with pytest.raises(ConfigError, match=f"window: the graph takes {WINDOW} steps, got 24"):
        imported(path, window=24)
    with pytest.raises(ConfigError, match=r"activations: a \.onnx file tells them itself"):
        imported(path, window=WINDOW, activations=["relu"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as ONNX"):
        imported(path, window=WINDOW)
    graph(path, head=[node("Add", ["x", "c"], "y", "plus")])
    model = onnx.load(path)
    del model.graph.node[0:3]
    onnx.save(model, path)
    with pytest.raises(WeightsError, match=r"has no LSTM, GRU or RNN node; .*dynamo=False"):
        imported(path, window=WINDOW)
    model = onnx.load(graph(path))
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    imported(path, window=WINDOW)
    (tmp_path / "weights.data").unlink()
    with pytest.raises(WeightsError, match=r"weights\.data"):
        imported(path, window=WINDOW)


def test_a_few_bytes_that_tell_of_a_huge_tensor_do_not_make_it(tmp_path: Path) -> None:
    huge = numpy_helper.from_array(np.array([2**20, 2**20]), "size")
    head = [node("ConstantOfShape", ["size"], "H", "huge"), node("MatMul", ["l", "H"], "y", "times")]
    with pytest.raises(WeightsError, match="times: its weight 'H' is no constant"):
        imported(graph(tmp_path / "network.onnx", head=head, more=[huge]), window=WINDOW)
