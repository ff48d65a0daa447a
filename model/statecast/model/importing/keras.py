"""Reads a model that Keras 3 has saved in its own format, without Keras and without executing anything."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError
from .layers import Layers, LinearLayer, RecurrentLayer

MISSING_EXTRA = "reading a .keras file needs the extra 'keras' (docs/installation.md)"
_IGNORED = ("InputLayer", "Dropout", "SpatialDropout1D", "Flatten", "Reshape")
_RECURRENT = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
_FUNCTIONS = {
    "linear": "identity", "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "elu": "elu", "silu": "silu",
    "swish": "silu", "softplus": "softplus",
}  # fmt: skip
# The rows of torch's gates among those of Keras: an LSTM has ifco in both, a GRU zrh instead of rzn.
_GATES = {4: (0, 1, 2, 3), 3: (1, 0, 2), 1: (0,)}


def layers_of_keras(path: Path, *, symbols: bool) -> Layers:
    """Return the layers of a .keras file: LSTM, GRU or SimpleRNN, then Dense.

    Args:
        path: The file.
        symbols: Whether the network tells classes, so that a softmax at its end changes nothing.

    Raises:
        WeightsError: The file cannot be read, or has a layer that cannot be imported.
    """
    described, weights = _read(path)
    recurrent: list[RecurrentLayer] = []
    linear: list[LinearLayer] = []
    activations, nonlinearity, embedding = ["identity"], "tanh", None
    for layer in described:
        kind, config = layer["class_name"], layer["config"]
        name, tensors = str(config["name"]), weights.get(str(config["name"]), [])
        if kind in _RECURRENT and not linear:
            recurrent.append(_recurrent(name, kind, config, tensors))
            nonlinearity = config["activation"]
        elif kind == "Embedding" and not recurrent and tensors:
            embedding = tensors[0]
        elif kind == "Dense" and recurrent and tensors:
            linear.append(LinearLayer(name, tensors[0].T, tensors[1] if len(tensors) > 1 else None))
            activations.append(_function(name, config["activation"], symbols=symbols))
        elif kind == "Activation" and recurrent and activations[-1] == "identity":
            activations[-1] = _function(name, config["activation"], symbols=symbols)
        elif kind not in _IGNORED:
            raise WeightsError(
                f"{name}: {kind} cannot be imported here; expected LSTM, GRU or SimpleRNN layers, then Dense ones"
                + ("; give its numbers as scales" if kind in ("Normalization", "Rescaling") else "")
            )
    if not recurrent or not linear:
        raise WeightsError(f"{path}: expected LSTM, GRU or SimpleRNN layers, then Dense ones")
    return Layers(recurrent, linear, tuple(activations), nonlinearity, embedding)


def _read(path: Path) -> tuple[list[Mapping[str, Any]], dict[str, list[Tensor]]]:
    """Return the descriptions of the layers, in order, and their variables by the layer's name."""
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(f"{path}: {MISSING_EXTRA}") from error
    try:
        with zipfile.ZipFile(path) as archive:
            described: list[Mapping[str, Any]] = json.loads(archive.read("config.json"))["config"]["layers"]
            with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
                groups = file["layers"].values() if "layers" in file else ()
                weights = {name: _variables(name, group) for group in groups if (name := group["vars"].attrs["name"])}
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: is no model that Keras 3 has saved as .keras: {error}") from error
    return described, weights


def _variables(name: str, group: Any) -> list[Tensor]:
    """Return the variables of a layer, or those of its recurrent cell."""
    place = group["cell"]["vars"] if "cell" in group else group["vars"]
    tensors = [torch.as_tensor(place[key][()]) for key in sorted(place, key=int)]
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise WeightsError(f"{name}: holds NaN or infinite values")
    return tensors


def _recurrent(name: str, kind: str, config: Mapping[str, Any], tensors: list[Tensor]) -> RecurrentLayer:
    expected: dict[str, tuple[Any, ...]] = {
        "activation": ("tanh", "relu") if kind == "SimpleRNN" else ("tanh",),
        "recurrent_activation": ("sigmoid",),
        "reset_after": (True,),
        "go_backwards": (False,),
    }
    for key, allowed in expected.items():
        if config.get(key, allowed[0]) not in allowed:
            raise WeightsError(f"{name}: {key} must be {allowed[0]}, got {config[key]}")
    if len(tensors) < 2:
        raise WeightsError(f"{name}: its weights are missing")
    gates = _RECURRENT[kind]
    found = {"weight_ih": _in_torch(tensors[0].T, gates), "weight_hh": _in_torch(tensors[1].T, gates)}
    if len(tensors) > 2:
        biases = tensors[2] if tensors[2].dim() == 2 else tensors[2].unsqueeze(0)
        for what, bias in zip(("bias_ih", "bias_hh"), biases, strict=False):
            found[what] = _in_torch(bias, gates)
    return RecurrentLayer(name, found)


def _in_torch(rows: Tensor, gates: int) -> Tensor:
    """Return rows [G H, ...] with their gates in torch's order."""
    parts = rows.chunk(gates)
    return torch.cat([parts[gate] for gate in _GATES[gates]])


def _function(name: str, activation: Any, *, symbols: bool) -> str:
    if symbols and activation == "softmax":
        return "identity"
    if not isinstance(activation, str) or activation not in _FUNCTIONS:
        raise WeightsError(f"{name}: activation {activation} cannot be imported; expected {', '.join(_FUNCTIONS)}")
    return _FUNCTIONS[activation]
