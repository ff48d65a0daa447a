"""The layers of a network that is to be imported, as plain tensors with names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import WeightsError

GATE_COUNTS = {4: "lstm", 3: "gru", 1: "rnn"}
_RECURRENT = re.compile(r"(?P<prefix>.*?)(?P<what>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(?P<layer>\d+))?")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class RecurrentLayer:
    """One recurrent layer in torch's layout: gates ifgo of an LSTM, rzn of a GRU.

    Attributes:
        name: The name of its input weights, for messages.
        tensors: weight_ih [G H, I], weight_hh [G H, P or H], and, where there are any, bias_ih and bias_hh [G H] and
            the projection weight_hr [P, H].
    """

    name: str
    tensors: Mapping[str, Tensor]

    @property
    def hidden_size(self) -> int:
        """The size of the cell state, H."""
        return self.tensors["weight_hr" if "weight_hr" in self.tensors else "weight_hh"].shape[1]

    @property
    def projection(self) -> int:
        """The size of the projected hidden state, P; 0 without a projection."""
        return self.tensors["weight_hr"].shape[0] if "weight_hr" in self.tensors else 0

    @property
    def input_size(self) -> int:
        """The size of the input, I."""
        return self.tensors["weight_ih"].shape[1]

    @property
    def kind(self) -> str:
        """The cell, by the number of its gates: "lstm", "gru" or "rnn".

        Raises:
            WeightsError: The weights are of no such cell.
        """
        gates, rest = divmod(self.tensors["weight_ih"].shape[0], self.hidden_size)
        if rest or gates not in GATE_COUNTS:
            raise WeightsError(
                f"{self.name}: {self.tensors['weight_ih'].shape[0]} rows are not 4 (LSTM), 3 (GRU) or 1 (RNN) times "
                f"the hidden size of {self.hidden_size}"
            )
        return GATE_COUNTS[gates]

    def is_like(self, other: "RecurrentLayer") -> bool:
        """Return whether the sizes of the states are the same."""
        return (self.hidden_size, self.projection) == (other.hidden_size, other.projection)

    def padded(self, hidden_size: int, input_size: int) -> dict[str, Tensor]:
        """Return the tensors of a layer with more units and inputs, which does the same: the further ones stay 0.

        Biases that are not there are 0, too. A layer with a projection keeps its size.
        """
        gates = self.tensors["weight_ih"].shape[0] // self.hidden_size
        columns = {"weight_ih": input_size, "weight_hh": self.projection or hidden_size}
        none = self.tensors["weight_ih"].new_zeros(gates * self.hidden_size)
        found = {"bias_ih": none, "bias_hh": none, **self.tensors}
        padded = {"weight_hr": self.tensors["weight_hr"]} if self.projection else {}
        for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            rows = found[what].reshape(gates, self.hidden_size, -1)
            more = columns.get(what, 1) - rows.shape[2], hidden_size - self.hidden_size
            wide = functional.pad(rows, (0, more[0], 0, more[1])).flatten(0, 1)
            padded[what] = wide if what in columns else wide.squeeze(1)
        return padded


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer: its name, weight [out, in], and bias [out] if it has one."""

    name: str
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Layers:
    """All layers of a network.

    Attributes:
        recurrent: The recurrent layers, the lowest first.
        linear: The linear layers of the head, in order.
        activations: The functions before the first linear layer and after each; empty if not known.
        nonlinearity: The function of an RNN, "tanh" or "relu".
        embedding: The vectors of symbols, [K, E]; None if there are none.
    """

    recurrent: Sequence[RecurrentLayer]
    linear: Sequence[LinearLayer]
    activations: tuple[str, ...] = ()
    nonlinearity: str = "tanh"
    embedding: Tensor | None = field(default=None)


def layers_of_tensors(tensors: Mapping[str, Tensor]) -> Layers:
    """Find the layers among the tensors of a torch state dict.

    Raises:
        WeightsError: A tensor belongs to no recurrent, linear or embedding layer, or there is no recurrent or linear
            layer.
    """
    for name, tensor in tensors.items():
        _check(name, tensor)
    groups: dict[tuple[str, int], dict[str, str]] = {}
    others: list[str] = []
    for name in tensors:
        if name.endswith("_reverse"):
            raise WeightsError(
                f"{name}: the network is bidirectional, so it needs the future; only one direction can be served"
            )
        if match := _RECURRENT.fullmatch(name):
            place = match["prefix"], int(match["layer"] or 0)
            groups.setdefault(place, {})[match["what"]] = name
        else:
            others.append(name)
    if not groups:
        raise WeightsError(
            f"no tensor is named like 'lstm.weight_ih_l0'; there are {', '.join(sorted(tensors)[:8]) or 'none'}. "
            "Expected the state_dict of a module with a torch.nn.LSTM, GRU or RNN"
        )
    recurrent = [
        _recurrent(groups[place], tensors) for place in sorted(groups, key=lambda at: (_natural(at[0]), at[1]))
    ]
    embedding = next((name for name in others if "emb" in name and name.endswith("weight")), None)
    linear = _linear([name for name in others if name != embedding], tensors)
    return Layers(recurrent, linear, embedding=None if embedding is None else tensors[embedding])


def _recurrent(names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> RecurrentLayer:
    name = names.get("weight_ih") or next(iter(names.values()))
    for what in ("weight_ih", "weight_hh"):
        if what not in names:
            raise WeightsError(f"{name}: the same layer's {what} is missing")
    layer = RecurrentLayer(names["weight_ih"], {what: tensors[each] for what, each in names.items()})
    rows = tensors[names["weight_ih"]].shape[0]
    for what, each in names.items():
        if tensors[each].dim() != (1 if what.startswith("bias") else 2):
            raise WeightsError(f"{each}: expected {'one dimension' if 'bias' in what else 'two dimensions'}")
        if what != "weight_hr" and tensors[each].shape[0] != rows:
            raise WeightsError(f"{each}: expected {rows} rows as {name}, got {tensors[each].shape[0]}")
    if layer.projection and tensors[names["weight_hh"]].shape[1] != layer.projection:
        raise WeightsError(
            f"{names['weight_hh']}: expected {layer.projection} columns as {names['weight_hr']} has rows"
        )
    return layer


def _linear(names: Iterable[str], tensors: Mapping[str, Tensor]) -> list[LinearLayer]:
    layers = []
    left = set(names)
    for name in sorted(left, key=_natural):
        stem, _, what = name.rpartition(".")
        if (what or name) != "weight" or tensors[name].dim() != 2:
            continue
        bias = f"{stem}.bias" if stem else "bias"
        layers.append(LinearLayer(name, tensors[name], tensors.get(bias)))
        left -= {name, bias}
    if left:
        raise WeightsError(
            f"{min(left)}: belongs to no layer that can be imported: LSTM, GRU or RNN, then linear layers; "
            "leave it out if the forecast does not need it"
        )
    if not layers:
        raise WeightsError("there is no linear layer, such as 'fc.weight', to read forecasts from")
    return layers


def layers_of_modules(
    recurrent: nn.Module | Sequence[nn.Module], head: nn.Module, embedding: nn.Module | None
) -> Layers:
    """Take the layers from torch modules.

    Raises:
        WeightsError: A module is none that can be imported.
    """
    modules = [recurrent] if isinstance(recurrent, nn.Module) else list(recurrent)
    found: list[RecurrentLayer] = []
    nonlinearity = "tanh"
    for number, module in enumerate(modules):
        if not isinstance(module, (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)):
            raise WeightsError(
                f"lstm: expected torch.nn.LSTM, GRU or RNN, or cells of them in order, got {type(module).__name__}"
            )
        nonlinearity = getattr(module, "nonlinearity", "tanh")
        tensors = {f"{type(module).__name__}.{number}.{name}": each for name, each in module.state_dict().items()}
        bare = layers_of_tensors({**tensors, "any.weight": torch.zeros(1, 1)})
        found += bare.recurrent
    linear, activations = _head_of(head)
    vectors = None
    if embedding is not None:
        if not isinstance(embedding, nn.Embedding):
            raise WeightsError(f"embedding: expected torch.nn.Embedding, got {type(embedding).__name__}")
        vectors = embedding.weight.detach()
    return Layers(found, linear, activations, nonlinearity, vectors)


_IGNORED = (nn.Dropout, nn.Identity, nn.Flatten)
_FUNCTIONS: Mapping[type[nn.Module], tuple[str, Mapping[str, object]]] = {
    nn.ReLU: ("relu", {}),
    nn.Tanh: ("tanh", {}),
    nn.Sigmoid: ("sigmoid", {}),
    nn.SiLU: ("silu", {}),
    nn.LeakyReLU: ("leaky_relu", {"negative_slope": 0.01}),
    nn.ELU: ("elu", {"alpha": 1.0}),
    nn.GELU: ("gelu", {"approximate": "none"}),
    nn.Softplus: ("softplus", {"beta": 1.0, "threshold": 20.0}),
}


def _head_of(head: nn.Module) -> tuple[list[LinearLayer], tuple[str, ...]]:
    """Return the linear layers of a head, and the functions before the first and after each."""
    linear: list[LinearLayer] = []
    activations = ["identity"]
    leaves = [(name, each) for name, each in head.named_modules() if not isinstance(each, (nn.Sequential, *_IGNORED))]
    for name, module in leaves:
        place = f"head.{name}" if name else "head"
        if isinstance(module, nn.Linear):
            bias = None if module.bias is None else module.bias.detach()
            linear.append(LinearLayer(f"{place}.weight", module.weight.detach(), bias))
            activations.append("identity")
        else:
            if activations[-1] != "identity":
                raise WeightsError(
                    f"{place}: {type(module).__name__} follows another function; only one can stand there"
                )
            activations[-1] = _function(place, module)
    if not linear:
        raise WeightsError("head: expected a torch.nn.Linear, or a Sequential of them with functions between")
    return linear, tuple(activations)


def _function(place: str, module: nn.Module) -> str:
    name, settings = _FUNCTIONS.get(type(module), ("", {}))
    if not name:
        known = ", ".join(each.__name__ for each in _FUNCTIONS)
        raise WeightsError(
            f"{place}: {type(module).__name__} cannot be imported; a head has Linear, Dropout and {known}"
        )
    for setting, value in settings.items():
        if getattr(module, setting) != value:
            raise WeightsError(f"{place}: {setting} must be {value}, got {getattr(module, setting)}")
    return name


def _check(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise WeightsError(f"{name}: holds NaN or infinite values")


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key in which fc10 comes after fc2."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name)]
