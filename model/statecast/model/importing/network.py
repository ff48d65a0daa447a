"""Builds an imported network from its layers and what is known of its training, and writes its folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, WeightsError
from ..files import next_version, publishing, save_model
from ..imported.config import ImportedConfig
from ..imported.imported import Imported
from .choices import ORDER, Choices
from .keras import layers_of_keras
from .layers import Layers, LinearLayer, RecurrentLayer, layers_of_modules, layers_of_tensors
from .onnx import network_of_onnx
from .onnx_check import check_against_graph
from .reading import read_tensors

KERAS_SUFFIX, ONNX_SUFFIX = ".keras", ".onnx"


def import_torch(
    lstm: nn.Module | Sequence[nn.Module],
    head: nn.Module,
    *,
    models: Path | str = "models",
    embedding: nn.Module | None = None,
    **choices: Any,
) -> Path:
    """Write a trained torch network as a model, for `statecast serve --models`.

    Args:
        lstm: A torch.nn.LSTM, GRU or RNN in one direction, or several, or cells of them, one above the other.
        head: A torch.nn.Linear, or a Sequential of them with functions between.
        models: The folder of models.
        embedding: The torch.nn.Embedding in front of a network of symbols; None for one-hot inputs.
        choices: `name`, `window` or `stateful`, and all else of `Choices`.

    Returns:
        The model's folder, <models>/<name>/<version>.

    Raises:
        ConfigError: The choices contradict each other, or do not fit the layers.
        WeightsError: A layer cannot be imported; the message names it.
    """
    return _write(layers_of_modules(lstm, head, embedding), Choices(**choices), Path(models))


def import_weights(
    file: Path | str,
    *,
    models: Path | str = "models",
    activations: Sequence[str] | None = None,
    nonlinearity: str = "tanh",
    **choices: Any,
) -> Path:
    """Write the network in a file of weights as a model; sizes are read from the tensors.

    Args:
        file: A .safetensors file, a state dict of torch.save, a model of Keras 3 (.keras), or an ONNX graph (.onnx).
            No code in it is executed.
        models: The folder of models.
        activations: The functions after each linear layer of the head. With one more in front, the first is applied to
            the recurrent layers' output. None for a head of a single linear layer without any, and for .keras and
            .onnx, which tell them.
        nonlinearity: The function of an RNN, "tanh" or "relu".
        choices: `name`, `window` or `stateful`, and all else of `Choices`.

    Returns:
        The model's folder, <models>/<name>/<version>.

    Raises:
        ConfigError: The choices contradict each other, or do not fit the layers.
        WeightsError: The file cannot be read, or a tensor does not fit; the message names it.
    """
    known = Choices(**choices)
    if (path := Path(file)).suffix in (KERAS_SUFFIX, ONNX_SUFFIX):
        if activations is not None:
            raise ConfigError(f"activations: a {path.suffix} file tells them itself; leave them out")
        if path.suffix == KERAS_SUFFIX:
            return _write(layers_of_keras(path, symbols=bool(known.classes)), known, Path(models))
        network = network_of_onnx(path, symbols=bool(known.classes))

        def check(model: Imported) -> None:
            config = model.config
            sizes = config.head_horizon, len(config.targets), config.numbers_per_value
            check_against_graph(model, network, _permutation(known.order, *sizes))

        return _write(network.layers, known, Path(models), check)
    found = layers_of_tensors(read_tensors(path))
    told = _activations(found.linear, activations)
    layers = Layers(found.recurrent, found.linear, told, nonlinearity, found.embedding)
    return _write(layers, known, Path(models))


def _activations(linear: Sequence[LinearLayer], named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the functions before the first linear layer and after each."""
    count = len(linear)
    if named is None and count > 1:
        raise ConfigError(
            f"activations: the head has {count} linear layers ({', '.join(each.name for each in linear)}); name the "
            f"function after each, such as {','.join(['relu'] * (count - 1) + ['identity'])}"
        )
    named = ["identity"] if named is None else named
    if len(named) not in (count, count + 1):
        raise ConfigError(f"activations: expected {count}, one after each linear layer, or one more in front")
    return ("identity",) * (count + 1 - len(named)) + tuple(named)


def _write(
    layers: Layers, choices: Choices, models: Path, check: Callable[[Imported], None] = lambda model: None
) -> Path:
    version = choices.version or next_version(models, choices.name)
    model = build(layers, choices, version)
    check(model)
    folder = models / choices.name / version
    with publishing(folder) as beside:
        save_model(model, beside)
    return folder


def build(layers: Layers, choices: Choices, version: str) -> Imported:
    """Return the network of some layers, in evaluation mode.

    Raises:
        ConfigError: The choices contradict each other, or do not fit the layers.
        WeightsError: A tensor does not fit the others or the choices.
    """
    first, settings = layers.recurrent[0], dict(choices.settings())
    _check_recurrent(layers.recurrent)
    _check_inputs(first, layers.embedding, settings)
    sizes = _head_sizes(layers)
    numbers = {"point": 1, "normal": 2}.get(settings["output"], len(settings["classes"] or settings["quantile_levels"]))
    per_step = numbers * len(settings["targets"])
    horizon, rest = divmod(sizes[-1], per_step)
    if rest or not horizon:
        raise WeightsError(
            f"{layers.linear[-1].name}: {sizes[-1]} outputs are no whole steps of "
            f"{len(settings['targets'])} targets with {numbers} numbers each ({settings['output']})"
        )
    if choices.rollout and horizon > 1:
        raise ConfigError(
            f"rollout: the head forecasts {horizon} steps itself; only one of a single step is rolled out"
        )
    config = ImportedConfig(
        name=choices.name,
        version=version,
        cell=first.kind,
        layers=len(layers.recurrent),
        hidden_size=max(layer.hidden_size for layer in layers.recurrent),
        projection=first.projection,
        nonlinearity=layers.nonlinearity if first.kind == "rnn" else "tanh",
        embedding_size=0 if layers.embedding is None else layers.embedding.shape[1],
        head_sizes=sizes,
        head_activations=layers.activations,
        horizon=choices.rollout or horizon,
        **settings,
    )
    model = Imported(config)
    model.load_state_dict(_state_dict(layers, _permutation(choices.order, horizon, len(settings["targets"]), numbers)))
    return model.eval()


def _check_recurrent(layers: Sequence[RecurrentLayer]) -> None:
    first, below = layers[0], layers[0]
    for layer in layers[1:]:
        is_projected = first.projection > 0 or layer.projection > 0
        if layer.kind != first.kind or (is_projected and not layer.is_like(first)):
            raise WeightsError(
                f"{layer.name}: {layer.kind} above {first.kind} ({first.name}); expected layers of one kind, and of "
                "one size if their hidden states are projected"
            )
        if layer.input_size != (below.projection or below.hidden_size):
            raise WeightsError(
                f"{layer.name}: takes {layer.input_size} inputs, but the layer below ({below.name}) has "
                f"{below.projection or below.hidden_size} outputs"
            )
        below = layer


def _check_inputs(first: RecurrentLayer, embedding: Tensor | None, settings: dict[str, Any]) -> None:
    classes = settings["classes"]
    if embedding is not None and (not classes or embedding.shape[0] != len(classes)):
        raise WeightsError(f"embedding: has {len(embedding)} rows, but there are {len(classes)} classes")
    if classes:
        size = len(classes) if embedding is None else embedding.shape[1]
        told = f"{size} numbers of a class"
    else:
        lagged = zip(settings["features"], settings["feature_lags"], strict=True)
        names = [f"{name}@{lag}" if lag else name for name, lag in lagged]
        size, told = len(names), f"{len(names)} ({', '.join(names)})"
    if first.input_size != size:
        raise WeightsError(f"{first.name}: takes {first.input_size} inputs at each step, but there are {told}")


def _head_sizes(layers: Layers) -> tuple[int, ...]:
    top = layers.recurrent[-1]
    size, below = top.projection or top.hidden_size, top.name
    for layer in layers.linear:
        if layer.weight.dim() != 2 or layer.weight.shape[1] != size:
            raise WeightsError(
                f"{layer.name}: takes {layer.weight.shape[-1]} inputs, but what is below ({below}) has {size} outputs; "
                "the head must read the last output of the top layer"
            )
        if layer.bias is not None and layer.bias.shape != layer.weight.shape[:1]:
            raise WeightsError(f"{layer.name}: its bias has {len(layer.bias)} numbers, not {layer.weight.shape[0]}")
        size, below = layer.weight.shape[0], layer.name
    return tuple(layer.weight.shape[0] for layer in layers.linear)


def _permutation(order: Sequence[str], horizon: int, targets: int, numbers: int) -> Tensor:
    """Return the rows of the last linear layer in the order horizon, target, number."""
    sizes = dict(zip(ORDER, (horizon, targets, numbers), strict=True))
    rows = torch.arange(horizon * targets * numbers).view([sizes[name] for name in order])
    return rows.permute([list(order).index(name) for name in ORDER]).flatten()


def _state_dict(layers: Layers, rows: Tensor) -> dict[str, Tensor]:
    """Return the tensors of `Imported`, float32; biases that are not there are 0."""
    tensors: dict[str, Tensor] = {}
    size = max(layer.hidden_size for layer in layers.recurrent)
    for number, layer in enumerate(layers.recurrent):
        padded = layer.padded(size, layer.input_size if number == 0 or layer.projection else size)
        tensors |= {f"cell.fused.{what}_l{number}": tensor for what, tensor in padded.items()}
    for number, linear in enumerate(layers.linear):
        tensors.update(_linear_tensors(number, linear))
    top = layers.recurrent[-1]
    if not top.projection:
        weight = tensors["head.linear.0.weight"]
        tensors["head.linear.0.weight"] = functional.pad(weight, (0, size - top.hidden_size))
    last = f"head.linear.{len(layers.linear) - 1}"
    for what in ("weight", "bias"):
        tensors[f"{last}.{what}"] = tensors[f"{last}.{what}"][rows]
    if layers.embedding is not None:
        tensors["embedding.weight"] = layers.embedding
    return {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}


def _linear_tensors(number: int, layer: LinearLayer) -> dict[str, Tensor]:
    bias = torch.zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias
    return {f"head.linear.{number}.weight": layer.weight, f"head.linear.{number}.bias": bias}
