"""What an imported network remembers of its inputs: the state that it carries, or its last inputs."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..layers.cells import RecurrentLayers, RecurrentState, run_ragged

# A long window runs in pieces, which bounds the memory for the outputs of its steps.
STEPS_AT_ONCE = 256

Memory: TypeAlias = RecurrentState | Tensor
"""The carried state, or the last inputs, float32 [N, W, I], NaN where there was none yet."""


@dataclass(frozen=True)
class Remembered:
    """The memories of B sessions before the first of up to T inputs, and after each.

    Attributes:
        lengths: How many inputs each session takes, int64 [B].
        inputs: The inputs, float32 [B, T, I].
        before: The memories before the first one.
        after: The memories after each session's last one.
        outputs: The top layer's output before the first input and after each, float32 [B, T + 1, H]; None of windows.
    """

    lengths: Tensor
    inputs: Tensor
    before: Memory
    after: Memory
    outputs: Tensor | None = None

    def at(self, layers: RecurrentLayers, rows: Tensor, steps: Tensor, *, whole: bool) -> Memory:
        """Return the memories of sessions after some of their inputs, rows and steps int64 [N].

        If not `whole`, a carried state holds the top layer's output and nothing else.
        """
        if isinstance(self.before, Tensor):
            return window_at(torch.cat([self.before[rows], self.inputs[rows]], dim=1), steps, self.before.shape[1])
        if whole or self.outputs is None:
            before = _select(self.before, rows)
            return run_ragged(layers, self.inputs[rows], before, steps)[1]
        return RecurrentState(self.outputs[rows, steps].unsqueeze(1), None)


def remember(layers: RecurrentLayers, before: Memory, inputs: Tensor, lengths: Tensor) -> Remembered:
    """Take the next inputs, float32 [B, T, I], of which each session takes its own number, int64 [B]."""
    if isinstance(before, Tensor):
        after = window_at(torch.cat([before, inputs], dim=1), lengths, before.shape[1])
        return Remembered(lengths, inputs, before, after)
    top = before.hidden[:, -1:]
    if inputs.shape[1] == 0:
        return Remembered(lengths, inputs, before, before, top)
    if bool((lengths == inputs.shape[1]).all()):
        output, state = layers(inputs, before)
    else:
        output, state = run_ragged(layers, inputs, before, lengths)
    return Remembered(lengths, inputs, before, state, torch.cat([top, output], dim=1))


def output_of(layers: RecurrentLayers, memory: Memory) -> Tensor:
    """Return the top layer's output, float32 [N, H]; NaN where a window is not full yet."""
    if isinstance(memory, RecurrentState):
        return memory.hidden[:, -1]
    state = zero_state(layers, memory)
    for piece in memory.split(STEPS_AT_ONCE, dim=1):  # type: ignore[no-untyped-call]
        _, state = layers(piece, state)
    return state.hidden[:, -1]


def zero_state(layers: RecurrentLayers, like: Tensor) -> RecurrentState:
    """Return the state before the first input, for as many sessions as `like` has rows."""
    hidden = like.new_zeros(len(like), layers.layers, layers.output_size)
    cell = like.new_zeros(len(like), layers.layers, layers.hidden_size) if layers.kind == "lstm" else None
    return RecurrentState(hidden, cell)


def window_at(rows: Tensor, starts: Tensor, size: int) -> Tensor:
    """Return `size` rows of each session from its own start on: rows [N, ..., X], starts int64 [N]."""
    index = starts.unsqueeze(1) + torch.arange(size, device=rows.device)
    return rows.gather(1, index.unsqueeze(2).expand(-1, -1, rows.shape[2]))


def _select(state: RecurrentState, rows: Tensor) -> RecurrentState:
    return RecurrentState(state.hidden[rows], None if state.cell is None else state.cell[rows])
