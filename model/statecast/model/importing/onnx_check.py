"""Compares an imported network with the graph that it was read from, run by ONNX's own reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, WeightsError
from ..imported.imported import Imported
from ..imported.memory import zero_state
from .onnx import OnnxNetwork

FEW_STEPS = 5
TOLERANCE = 1e-4


def check_against_graph(model: Imported, network: OnnxNetwork, rows: Tensor) -> None:
    """Check that a graph does what the model does, from a zero state over random inputs.

    So a graph that reads another step than the last, or scales its inputs, is noticed.

    Args:
        model: The model of the graph's layers.
        network: The graph.
        rows: The graph's output for each of the model's, int64 [outputs].

    Raises:
        ConfigError: The graph takes another number of steps than the window.
        WeightsError: The graph cannot be run, or does something else.
    """
    inputs = _inputs(model, network)
    told = _run(network, inputs).flatten(1)[:, rows]
    with torch.inference_mode():
        symbols_or_rows = torch.from_numpy(inputs if network.is_batch_first else inputs.swapaxes(0, 1))
        steps = model.embedding(symbols_or_rows) if model.config.embedding_size else symbols_or_rows.float()
        _, state = model.cell(steps, zero_state(model.cell, steps))
        own = model.head(state.hidden[:, -1]).flatten(1)
    apart = float((told - own).abs().max() / own.abs().max().clamp(min=1.0))
    if not apart <= TOLERANCE:
        raise WeightsError(
            f"{network.graph.path}: the graph does more than its layers: its output {network.output!r} differs by "
            f"{apart:.1g}. It may read another step than the last, or scale its inputs"
        )


def _inputs(model: Imported, network: OnnxNetwork) -> NDArray[Any]:
    """Return random inputs of the graph's shape: [batch, time, I], [time, batch, I], or symbols without the I."""
    (given,) = (each for each in network.graph.inputs if each.name == network.sequence)
    shape = [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
    symbols = bool(model.config.embedding_size)
    if len(shape) != (2 if symbols else 3):
        raise WeightsError(f"{given.name}: expected an input of [batch, time, inputs], got {len(shape)} dimensions")
    batch, time = (0, 1) if network.is_batch_first else (1, 0)
    window = model.config.run_steps
    if window and shape[time] not in (0, window):
        raise ConfigError(f"window: the graph takes {shape[time]} steps, got {window}")
    shape[batch], shape[time] = shape[batch] or 1, shape[time] or window or FEW_STEPS
    random = np.random.default_rng(0)
    if symbols:
        return random.integers(0, len(model.config.classes), shape)
    return random.normal(size=(*shape[:2], model.config.input_size)).astype(np.float32)


def _run(network: OnnxNetwork, inputs: NDArray[Any]) -> Tensor:
    """Return the graph's output for the last step, float32 [batch, outputs]; further inputs, its first state, are 0."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    batch, steps = inputs.shape[:2] if network.is_batch_first else inputs.shape[1::-1]
    feeds = {network.sequence: inputs}
    for each in network.graph.inputs:
        kind = helper.tensor_dtype_to_np_dtype(each.type.tensor_type.elem_type)
        if each.name == network.sequence:
            feeds[each.name] = inputs.astype(kind)
        else:
            feeds[each.name] = np.zeros(_state_shape(each, batch), kind)
    try:
        evaluator = ReferenceEvaluator(network.graph.model, new_ops=_relu_too())
        told, *states = evaluator.run([network.output, *network.first_states], feeds)
    except Exception as error:
        raise WeightsError(f"{network.graph.path}: the graph cannot be run: {error}") from error
    for name, state in zip(network.first_states.values(), states, strict=True):
        if np.any(state):
            raise WeightsError(f"{name}: begins with another state than zero, which cannot be imported")
    output = torch.tensor(told).float()
    outputs = network.layers.linear[-1].weight.shape[0]
    if output.numel() == batch * outputs:
        return output.reshape(batch, outputs)
    if output.shape == (batch, steps, outputs):
        return output[:, -1]
    if output.shape == (steps, batch, outputs):
        return output[-1]
    raise WeightsError(f"{network.output!r}: expected {outputs} numbers of each series, got {list(output.shape)}")


def _state_shape(given: Any, batch: int) -> Sequence[int]:
    shape = [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
    if len(shape) != 3 or not (shape[0] and shape[2]):
        raise WeightsError(f"{given.name}: expected a first state of [1, batch, hidden], or no further input")
    return [shape[0], shape[1] or batch, shape[2]]


def _relu_too() -> list[type]:
    """Return the reference's RNN with the function that it lacks."""
    from onnx.reference.ops import op_rnn

    class RNN(op_rnn.RNN_14):  # type: ignore[misc]
        def choose_act(self, name: str, alpha: Any, beta: Any) -> Any:
            return (lambda x: np.maximum(x, 0)) if name == "Relu" else super().choose_act(name, alpha, beta)

    return [RNN]
