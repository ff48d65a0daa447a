"""A classifier's step and forecast by kernels; as in `classifier`."""

import numpy as np
import torch
from torch import Tensor, nn

from ..layers.cells import RecurrentLayers
from ..state import StateLayout
from . import cells
from .arguments import Doubles, Floats, Whole, array_of, layers_of, sizes_of_cell
from .compiling import Entry, kernel
from .functions import add_product, exp32
from .fused import FEW
from .many import ManyCells, Scratch


@kernel
def write_embeddings(whole, after, sizes, embedding, symbols, inputs):
    """Write the inputs of N sessions for a symbol, and count it.

    Args:
        whole, after: The sessions' rows before and after, int64.
        embedding: The embeddings, float32 [K + 1, I].
        symbols: The symbols' rows in it, int64 [N].
        inputs: Gets the inputs, float32 [N, I].
    """
    for n in range(symbols.shape[0]):
        inputs[n] = embedding[symbols[n]]
        after[n, sizes.at_step] = whole[n, sizes.at_step] + 1


@kernel
def share_out(logits, steps, into):
    """Turn log-probabilities, float32 [N, horizon x K], into probabilities of some steps, float32 [N, steps, K, 1]."""
    classes = into.shape[2]
    for n in range(into.shape[0]):
        for step in range(steps):
            told = logits[n, step * classes : (step + 1) * classes]
            highest, total = told.max(), np.float32(0.0)
            for each in range(classes):
                told[each] = exp32(told[each] - highest)
            for each in range(classes):
                total += told[each]
            for each in range(classes):
                into[n, step, each, 0] = told[each] / total


@kernel
def multiply(left, right, bias, into):
    """Write left @ right + bias; float32 [N, I], [I, O], [O] and [N, O]."""
    into[:] = bias
    add_product(left, right, into)


_run_layers, _embed = Entry(cells.run_layers), Entry(write_embeddings)
_share_out, _multiply = Entry(share_out), Entry(multiply)


class FusedSymbols:
    """The kernels of one classifier, with its weights as they are now; safe for any thread."""

    def __init__(self, cell: RecurrentLayers, layout: StateLayout, embedding: nn.Embedding, emit: nn.Linear) -> None:
        self._sizes, self._layers = sizes_of_cell(cell, layout), layers_of(cell)
        self._many = ManyCells(self._sizes, self._layers, Scratch())
        self._embedding: Floats = array_of(embedding.weight)
        self._emit: Floats = array_of(emit.weight.t())
        self._bias: Floats = array_of(emit.bias)

    def step(self, rows: Doubles, symbols: Whole) -> tuple[Doubles, Floats]:
        """Take N sessions one symbol further.

        Args:
            rows: The sessions, float64 [N, R]; stay as they are.
            symbols: The rows of their symbols in the embedding, int64 [N].

        Returns:
            The rows after, and the inputs of the recurrent layers, float32 [N, I].
        """
        after, inputs = np.empty_like(rows), np.empty((len(rows), self._sizes.inputs), np.float32)
        floats, floats_after = rows.view(np.float32), after.view(np.float32)
        _embed(rows.view(np.int64), after.view(np.int64), self._sizes, self._embedding, symbols, inputs)
        if len(rows) > FEW:
            self._many.run(floats, floats_after, inputs)
        else:
            _run_layers(floats, floats_after, self._sizes, self._layers, inputs)
        return after, inputs

    def forecast(self, rows: Doubles, steps: int, classes: int) -> Floats:
        """Return the probability of each class for the next steps, float32 [N, steps, K, 1]."""
        top = self._sizes.at_hidden + (self._sizes.layers - 1) * self._sizes.hidden
        output = np.ascontiguousarray(rows.view(np.float32)[:, top : top + self._sizes.hidden])
        logits = np.empty((len(rows), len(self._bias)), np.float32)
        if len(rows) > FEW:
            tensors: list[Tensor] = [torch.from_numpy(each) for each in (self._bias, output, self._emit, logits)]
            torch.addmm(*tensors[:3], out=tensors[3])
        else:
            _multiply(output, self._emit, self._bias, logits)
        into = np.empty((len(rows), steps, classes, 1), np.float32)
        _share_out(logits, steps, into)
        return into
