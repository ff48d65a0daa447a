"""Reads an ONNX graph of recurrent layers and a head. Only standard operators without control flow are taken."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError
from .layers import Layers, LinearLayer, RecurrentLayer

MISSING_EXTRA = "reading an .onnx file needs the extra 'onnx' (docs/installation.md)"
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# The rows of torch's gates among those of ONNX: an LSTM has iofc instead of ifgo, a GRU zrh instead of rzn.
_IN_TORCH = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_FUNCTIONS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "Relu": ("relu", {}),
    "Tanh": ("tanh", {}),
    "Sigmoid": ("sigmoid", {}),
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "Elu": ("elu", {"alpha": 1.0}),
    "Gelu": ("gelu", {"approximate": "none"}),
    "Softplus": ("softplus", {}),
}
_PASSING = (
    "Identity", "Dropout", "Cast", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Gather", "Slice"
)  # fmt: skip
"""Operators that only choose or rearrange numbers; if they do so wrongly, `onnx_check` notices."""
_ONLY_SHAPES = ("Constant", "ConstantOfShape", "Shape", "Concat", "Expand", "Split")
_KNOWN = {*_GATES, *_FUNCTIONS, *_PASSING, *_ONLY_SHAPES, "Gemm", "MatMul", "Add", "Mul", "Softmax"}
_LONG_GRAPH = 100


@dataclass(frozen=True)
class Graph:
    """An ONNX graph of known operators, with the values of its constants.

    Attributes:
        path: Its file.
        model: The ONNX model.
        constants: Its initializers and what follows from them alone, by name.
    """

    path: Path
    model: Any
    constants: Mapping[str, Tensor]

    @cached_property
    def maker(self) -> Mapping[str, Any]:
        """The node that makes each value."""
        return {name: node for node in self.model.graph.node for name in node.output if name}

    @cached_property
    def recurrent(self) -> list[Any]:
        """The recurrent nodes, in order."""
        return [node for node in self.model.graph.node if node.op_type in _GATES]

    @cached_property
    def inputs(self) -> list[Any]:
        """The inputs that are not constants."""
        return [each for each in self.model.graph.input if each.name not in self.constants]


@dataclass(frozen=True)
class OnnxNetwork:
    """The layers of a graph, and what its own run needs to be compared with them.

    Attributes:
        graph: The graph.
        layers: Its layers.
        sequence: The name of the input that holds the steps.
        output: The name of what the head tells: the logits, if a softmax follows.
        is_batch_first: True if the input is [batch, time, ...] instead of [time, batch, ...].
    """

    graph: Graph
    layers: Layers
    sequence: str
    output: str
    is_batch_first: bool

    @property
    def first_states(self) -> Mapping[str, str]:
        """The names of the values with which the layers begin, and each one's layer."""
        return {name: _name(node) for node in self.graph.recurrent for name in node.input[5:7] if name}


def network_of_onnx(path: Path, *, symbols: bool) -> OnnxNetwork:
    """Return the layers of an .onnx file: LSTM, GRU or RNN, then Gemm or MatMul with functions between.

    Args:
        path: The file; weights beside it, as torch writes them for large networks, are read as well.
        symbols: Whether the network tells classes, so that a softmax at its end changes nothing.

    Raises:
        WeightsError: The file cannot be read, or has a node that cannot be imported.
    """
    graph = _read(path)
    if not graph.recurrent:
        raise WeightsError(
            f"{path}: has no LSTM, GRU or RNN node; torch's newer exporter takes an nn.RNN apart, so export it with "
            "torch.onnx.export(..., dynamo=False), or import the weights"
        )
    recurrent = [_recurrent(graph, node) for node in graph.recurrent]
    sequence, embedding, is_batch_first = _below(graph)
    output, linear, activations = _head(graph, symbols=symbols)
    kinds = {_nonlinearity(node) for node in graph.recurrent}
    if len(kinds) > 1:
        raise WeightsError(f"{_name(graph.recurrent[-1])}: all layers must have one activation, got {sorted(kinds)}")
    layers = Layers(recurrent, linear, activations, kinds.pop(), embedding)
    return OnnxNetwork(graph, layers, sequence, output, is_batch_first)


def _read(path: Path) -> Graph:
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper
    except ImportError as error:
        raise WeightsError(f"{path}: {MISSING_EXTRA}") from error
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: its weights are in another file: {error}; put that beside it") from error
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise WeightsError(f"{path}: cannot be read as ONNX: {error}") from error
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _KNOWN:
            raise WeightsError(
                f"{_name(node)}: {node.op_type} cannot be imported; expected {', '.join(_GATES)}, then linear layers "
                f"with {', '.join(_FUNCTIONS)}"
            )
    constants = {each.name: torch.tensor(numpy_helper.to_array(each)) for each in model.graph.initializer}
    for node in model.graph.node:
        constants.update(_folded(node, constants))
    return Graph(path, model, constants)


def _folded(node: Any, constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs of a node, if they follow from constants alone."""
    is_constant = all(name in constants for name in node.input if name)
    if not is_constant or node.op_type in ("ConstantOfShape", "Expand", *_GATES):  # whose sizes a few bytes can tell
        return {}
    from onnx.reference import ReferenceEvaluator

    try:
        values = ReferenceEvaluator(node).run(None, {name: constants[name].numpy() for name in node.input if name})
    except Exception as error:
        raise WeightsError(f"{_name(node)}: cannot be computed: {error}") from error
    return {name: torch.tensor(value) for name, value in zip(node.output, values, strict=False) if name}


def _recurrent(graph: Graph, node: Any) -> RecurrentLayer:
    """Return a recurrent node as a layer in torch's layout."""
    name, kind, settings = _name(node), node.op_type, _settings(node)
    functions = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
    expected: dict[str, tuple[Any, ...]] = {
        "direction": ("forward",),
        "activations": (functions.get(kind, ["Tanh"]), ["Relu"] if kind == "RNN" else None),
        "linear_before_reset": (1,) if kind == "GRU" else (0,),
        "input_forget": (0,),
        "clip": (0.0,),
        "activation_alpha": ([],),
        "activation_beta": ([],),
    }
    absent = {"linear_before_reset": 0}
    for key, allowed in expected.items():
        value = settings.get(key, absent.get(key, allowed[0]))
        if value not in allowed:
            raise WeightsError(f"{name}: {key} must be {allowed[0]}, got {value}")
    _, weight, *others = list(node.input) + [""] * (8 - len(node.input))
    for what, value in (("sequence_lens", others[2]), ("peepholes", others[5])):
        if value:
            raise WeightsError(f"{name}: {what} cannot be imported; leave it out")
    gates = _GATES[kind]
    found = {
        "weight_ih": _in_torch(_constant(graph, node, weight), kind, f"{name}: W"),
        "weight_hh": _in_torch(_constant(graph, node, others[0]), kind, f"{name}: R"),
    }
    if others[1]:
        for what, bias in zip(("bias_ih", "bias_hh"), _constant(graph, node, others[1]).chunk(2, dim=-1), strict=True):
            found[what] = _in_torch(bias.unsqueeze(2), kind, f"{name}: B").squeeze(1)
    rows = found["weight_ih"].shape[0]
    for what, tensor in found.items():
        if tensor.shape[0] != rows or rows != gates * found["weight_hh"].shape[1]:
            raise WeightsError(f"{name}: {what} has {tensor.shape[0]} rows, expected {rows} as W has")
    return RecurrentLayer(name, found)


def _in_torch(rows: Tensor, kind: str, place: str) -> Tensor:
    """Return rows [1, G H, X] without the direction, as float32 with their gates in torch's order."""
    gates = _GATES[kind]
    if rows.dim() != 3 or rows.shape[0] != 1 or rows.shape[1] % gates:
        raise WeightsError(f"{place}: expected [1, {gates} x hidden, ...], got {list(rows.shape)}")
    parts = rows[0].float().chunk(gates)
    return torch.cat([parts[gate] for gate in _IN_TORCH[kind]])


def _nonlinearity(node: Any) -> str:
    return "relu" if _settings(node).get("activations") == ["Relu"] else "tanh"


def _below(graph: Graph) -> tuple[str, Tensor | None, bool]:
    """Return the input of the lowest layer, the embedding in front of it, and whether the input has the batch first."""
    first = graph.recurrent[0]
    value, nodes = _before(graph, first, first.input[0])
    embedding = None
    if (node := graph.maker.get(value)) is not None and node.op_type == "Gather" and node.input[0] in graph.constants:
        embedding = _constant(graph, node, node.input[0]).float()
        value, more = _before(graph, node, node.input[1])
        nodes += more
    if value not in {each.name for each in graph.inputs}:
        raise WeightsError(f"{_name(first)}: reads {value!r}, which is no input of the graph")
    for below, node in pairwise(graph.recurrent):
        if (found := _before(graph, node, node.input[0])[0]) != below.output[0]:
            raise WeightsError(f"{_name(node)}: reads {found!r}, not the outputs of {_name(below)}")
    swaps = sum(list(_settings(each).get("perm", ()))[:2] == [1, 0] for each in nodes)
    return value, embedding, (_settings(first).get("layout", 0) + swaps) % 2 == 1


def _before(graph: Graph, reader: Any, value: str) -> tuple[str, list[Any]]:
    """Return the value that a node reads, and the nodes between that only rearrange its numbers."""
    between: list[Any] = []
    while (node := graph.maker.get(value)) is not None and node.op_type not in _GATES:
        if node.op_type == "Gather" and node.input[0] in graph.constants:
            break
        if node.op_type not in _PASSING:
            raise WeightsError(
                f"{_name(node)}: {node.op_type} before {_name(reader)} cannot be imported; scale the inputs outside of "
                "the graph, and give the numbers as scales"
            )
        between.append(node)
        value = node.input[0]
    return value, between


def _head(graph: Graph, *, symbols: bool) -> tuple[str, list[LinearLayer], tuple[str, ...]]:
    """Return the name of what the head tells, its linear layers, and the functions before the first and after each."""
    problems = []
    for output in graph.model.graph.output:
        try:
            name, steps = output.name, list(_walk(graph, output.name))
        except WeightsError as error:
            problems.append(error)
            continue
        if symbols and steps[:1] == ["softmax"]:
            name, steps = graph.maker[_origin(graph, name)].input[0], steps[1:]
        linear: list[LinearLayer] = []
        activations = ["identity"]
        for step in reversed(steps):
            if isinstance(step, LinearLayer):
                linear.append(step)
                activations.append("identity")
            elif step == "softmax" or activations[-1] != "identity":
                raise WeightsError(f"{output.name}: {step} cannot stand there; one function can follow a linear layer")
            else:
                activations[-1] = step
        if linear:
            return name, linear, tuple(activations)
    raise (
        problems[0]
        if problems
        else WeightsError(
            f"{graph.path}: no output is made by linear layers (Gemm, MatMul) from the top recurrent layer"
        )
    )


def _walk(graph: Graph, value: str) -> Iterator[LinearLayer | str]:
    """Yield the linear layers and functions from an output back to the top recurrent layer."""
    top = graph.recurrent[-1]
    for _ in range(_LONG_GRAPH):
        value = _origin(graph, value)
        node = graph.maker.get(value)
        if value in top.output[:2]:
            return
        if node is None or node.op_type in _GATES:
            raise WeightsError(f"{value!r}: expected the head to read the hidden state of {_name(top)} alone")
        if node.op_type in ("Gemm", "MatMul", "Add"):
            layer, value = _linear(graph, node)
            yield layer
        elif node.op_type == "Mul" and (origin := _silu(graph, node)):
            yield "silu"
            value = origin
        elif node.op_type in _FUNCTIONS or node.op_type == "Softmax":
            yield _function(node)
            value = node.input[0]
        else:
            raise WeightsError(f"{_name(node)}: {node.op_type} cannot be imported there")
    raise WeightsError(f"{graph.path}: the head has more than {_LONG_GRAPH} nodes")


def _origin(graph: Graph, value: str) -> str:
    """Return the value of which this one only chooses or rearranges numbers."""
    while (node := graph.maker.get(value)) is not None and node.op_type in _PASSING:
        value = node.input[0]
    return value


def _linear(graph: Graph, node: Any) -> tuple[LinearLayer, str]:
    """Return the linear layer of a Gemm, or a MatMul with or without an Add, and the value that it takes."""
    name, settings, bias = _name(node), _settings(node), None
    if node.op_type == "Add":
        given, bias_name = sorted(node.input, key=lambda each: each in graph.constants)
        bias, made_by = _constant(graph, node, bias_name), graph.maker.get(given)
        if made_by is None or made_by.op_type != "MatMul":
            raise WeightsError(f"{name}: adds to {given!r}; only the bias of a MatMul can be imported")
        node, settings = made_by, _settings(made_by)
    elif len(node.input) > 2 and node.input[2]:
        bias = _constant(graph, node, node.input[2])
    if settings.get("transA", 0) or not settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0:
        raise WeightsError(f"{name}: expected alpha and beta of 1, and transA of 0")
    weight = _constant(graph, node, node.input[1])
    if weight.dim() != 2:
        raise WeightsError(f"{name}: expected a weight of two dimensions, got {list(weight.shape)}")
    weight = (weight if settings.get("transB", 0) else weight.T).float()
    if bias is not None and bias.numel() not in (1, weight.shape[0]):
        raise WeightsError(f"{name}: expected a bias of {weight.shape[0]} numbers, got {list(bias.shape)}")
    return LinearLayer(name, weight, None if bias is None else bias.float().flatten().expand(len(weight))), node.input[
        0
    ]


def _silu(graph: Graph, node: Any) -> str:
    """Return x if the node is x * sigmoid(x), else an empty text."""
    for value, other in (node.input, reversed(node.input)):
        gate = graph.maker.get(other)
        if gate is not None and gate.op_type == "Sigmoid" and gate.input[0] == value:
            return str(value)
    return ""


def _function(node: Any) -> str:
    if node.op_type == "Softmax":
        return "softmax"
    name, settings = _FUNCTIONS[node.op_type]
    own = _settings(node)
    for key, wanted in settings.items():
        value = own.get(key, wanted)
        if not (abs(value - wanted) < 1e-6 if isinstance(wanted, float) else value == wanted):
            raise WeightsError(f"{_name(node)}: {key} must be {wanted}, got {value}")
    return name


def _constant(graph: Graph, node: Any, name: str) -> Tensor:
    tensor = graph.constants.get(name)
    if tensor is None:
        raise WeightsError(f"{_name(node)}: its weight {name!r} is no constant")
    if not bool(tensor.isfinite().all()):
        raise WeightsError(f"{_name(node)}: {name!r} holds NaN or infinite values")
    return tensor


def _settings(node: Any) -> dict[str, Any]:
    """Return the attributes of a node; texts as str."""
    from onnx.helper import get_attribute_value

    found = {each.name: get_attribute_value(each) for each in node.attribute}
    return {key: _text(value) for key, value in found.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [_text(each) for each in value] if isinstance(value, (list, tuple)) else value


def _name(node: Any) -> str:
    return str(node.name or (node.output[0] if node.output else node.op_type))
