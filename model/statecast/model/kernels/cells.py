"""The recurrent layers for one step, as in `layers.cells`."""

import numpy as np

from .arguments import GRU, LSTM
from .compiling import kernel
from .functions import add_product, sigmoid32, tanh32

_F = np.float32


@kernel
def activate(added, recurrent, before, after, sizes, layer, output):
    """Write the state of N sessions after a layer's step.

    Args:
        added: What the layer's input contributes, float32 [N, gates x H]; for all cells but a GRU also what its hidden
            state does.
        recurrent: What a GRU's hidden state contributes, of the same shape.
        before, after: The sessions' rows before and after the step, float32.
        output: Gets the hidden state, float32 [N, H].
    """
    size = sizes.hidden
    hidden_at, cell_at = sizes.at_hidden + layer * size, sizes.at_cell + layer * size
    for n in range(added.shape[0]):
        gates, out = added[n], output[n]
        if sizes.cell == LSTM:
            old, new = before[n, cell_at : cell_at + size], after[n, cell_at : cell_at + size]
            for at in range(size):
                kept = sigmoid32(gates[size + at]) * old[at]
                new[at] = kept + sigmoid32(gates[at]) * tanh32(gates[2 * size + at])
            for at in range(size):
                out[at] = sigmoid32(gates[3 * size + at]) * tanh32(new[at])
        elif sizes.cell == GRU:
            old, own = before[n, hidden_at : hidden_at + size], recurrent[n]
            for at in range(size):
                reset = sigmoid32(gates[at] + own[at])
                update = sigmoid32(gates[size + at] + own[size + at])
                candidate = tanh32(gates[2 * size + at] + reset * own[2 * size + at])
                out[at] = candidate + update * (old[at] - candidate)
        else:
            for at in range(size):
                out[at] = tanh32(gates[at])
        after[n, hidden_at : hidden_at + size] = out


@kernel
def run_layers(floats, after, sizes, layers, inputs):
    """Run all layers for a step of N sessions.

    Args:
        floats, after: The sessions' rows before and after the step, float32.
        inputs: The inputs, float32 [N, I].
    """
    added = np.empty((inputs.shape[0], layers.bias.shape[1]), _F)
    recurrent = np.empty_like(added)
    hidden = np.empty((inputs.shape[0], sizes.hidden), _F)
    output = np.empty_like(hidden)
    for layer in range(sizes.layers):
        start = sizes.at_hidden + layer * sizes.hidden
        hidden[:] = floats[:, start : start + sizes.hidden]
        added[:] = layers.bias[layer]
        if layer == 0:
            add_product(inputs, layers.first, added)
        else:
            add_product(output, layers.others[layer - 1], added)
        if sizes.cell == GRU:
            recurrent[:] = layers.recurrent_bias[layer]
            add_product(hidden, layers.recurrent[layer], recurrent)
        else:
            add_product(hidden, layers.recurrent[layer], added)
        activate(added, recurrent, floats, after, sizes, layer, output)
