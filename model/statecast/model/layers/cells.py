"""Recurrent layers, which run step by step for short inputs and with fused kernels for long ones."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

# Below this many steps, plain cells beat the fixed cost of the fused kernels.
FUSED_STEPS = 8
# Compiled kernels take no more steps at once; torch computes many steps together.
MOST_STEPS = 16
GATES = {
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("reset", "update", "candidate"),
    "rnn": ("candidate",),
}


class RecurrentState(NamedTuple):
    """The state of recurrent layers: hidden [B, L, H] and, for an LSTM, cell [B, L, H]."""

    hidden: Tensor
    cell: Tensor | None


@dataclass(frozen=True)
class Gates:
    """The gates of the layers in one step of one sequence.

    Attributes:
        names: "input", "forget", "candidate", "output" of an LSTM; "reset", "update", "candidate" of a GRU; "candidate"
            of a tanh RNN, which has no gates.
        values: The gates, 0 (closed) to 1 (open), and the candidates, -1 to 1, float32 [layers, gates, H].
        cell: The LSTM's cell state after the step, float32 [layers, H]; None if the cell has none.
        hidden: The hidden state after the step, float32 [layers, H].
    """

    names: tuple[str, ...]
    values: Tensor
    cell: Tensor | None
    hidden: Tensor


class RecurrentLayers(nn.Module):
    """A stack of LSTM, GRU or RNN layers over batch-first input.

    An LSTM's hidden state may be projected to a smaller size. An RNN applies tanh, or relu.
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        layers: int,
        *,
        projection: int = 0,
        nonlinearity: str = "tanh",
    ) -> None:
        super().__init__()
        self.kind, self.layers, self.hidden_size = kind, layers, hidden_size
        self.projection, self.output_size = projection, projection or hidden_size
        self._bend = torch.relu if nonlinearity == "relu" else torch.tanh
        types: dict[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        own: dict[str, dict[str, Any]] = {"lstm": {"proj_size": projection}, "rnn": {"nonlinearity": nonlinearity}}
        self.fused = types[kind](input_size, hidden_size, layers, batch_first=True, **own.get(kind, {}))
        if kind == "lstm":
            with torch.no_grad():
                for layer in range(layers):
                    # An open forget gate lets gradients reach far back from the beginning of training.
                    self._weight("bias_ih", layer)[hidden_size : 2 * hidden_size].fill_(1.0)

    def forward(self, inputs: Tensor, recurrent: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Run the layers.

        Args:
            inputs: The inputs, float32 [B, T, I], T >= 1.
            recurrent: The state before the first step.

        Returns:
            The top layer's output [B, T, H] and the state after the last step.
        """
        if inputs.shape[1] >= FUSED_STEPS:
            return self._run_fused(inputs, recurrent)
        return self._run_plain(inputs, recurrent)

    def _run_fused(self, inputs: Tensor, recurrent: RecurrentState) -> tuple[Tensor, RecurrentState]:
        hidden = recurrent.hidden.transpose(0, 1).contiguous()
        if recurrent.cell is None:
            output, hidden = self.fused(inputs, hidden)
            return output, RecurrentState(hidden.transpose(0, 1), None)
        cell = recurrent.cell.transpose(0, 1).contiguous()
        output, (hidden, cell) = self.fused(inputs, (hidden, cell))
        return output, RecurrentState(hidden.transpose(0, 1), cell.transpose(0, 1))

    def _run_plain(self, inputs: Tensor, recurrent: RecurrentState) -> tuple[Tensor, RecurrentState]:
        hiddens, cells = [], []
        for layer in range(self.layers):
            gates = functional.linear(inputs, self._weight("weight_ih", layer), self._weight("bias_ih", layer))
            hidden = recurrent.hidden[:, layer]
            cell = None if recurrent.cell is None else recurrent.cell[:, layer]
            outputs = []
            for step in range(inputs.shape[1]):
                hidden, cell, _ = self._step(gates[:, step], hidden, cell, layer)
                outputs.append(hidden)
            inputs = torch.stack(outputs, dim=1)
            hiddens.append(hidden)
            if cell is not None:
                cells.append(cell)
        stacked = torch.stack(cells, dim=1) if cells else None
        return inputs, RecurrentState(torch.stack(hiddens, dim=1), stacked)

    def gates(self, inputs: Tensor, recurrent: RecurrentState) -> Gates:
        """Run some steps of one sequence, and return the gates of the last step.

        Args:
            inputs: The inputs, float32 [1, T, I], T >= 1.
            recurrent: The state of the sequence before the first step.
        """
        if inputs.shape[1] > 1:
            _, recurrent = self(inputs[:, :-1], recurrent)
        rows, opened, hiddens, cells = inputs[:, -1], [], [], []
        for layer in range(self.layers):
            added = functional.linear(rows, self._weight("weight_ih", layer), self._weight("bias_ih", layer))
            cell = None if recurrent.cell is None else recurrent.cell[:, layer]
            rows, cell, gates = self._step(added, recurrent.hidden[:, layer], cell, layer)
            opened.append(torch.cat(gates))
            hiddens.append(rows[0])
            if cell is not None:
                cells.append(cell[0])
        return Gates(GATES[self.kind], torch.stack(opened), torch.stack(cells) if cells else None, torch.stack(hiddens))

    def _step(
        self, added: Tensor, hidden: Tensor, cell: Tensor | None, layer: int
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Run one step of one layer; return its hidden state, cell state and gates, in the order of GATES.

        `added` is the contribution of the input, [B, 4 H], [B, 3 H] or [B, H].
        """
        recurrent = torch.addmm(self._weight("bias_hh", layer), hidden, self._weight("weight_hh", layer).t())
        if cell is not None:
            hidden, cell, gates = _lstm_step(added + recurrent, cell)
            if self.projection:
                hidden = functional.linear(hidden, self._weight("weight_hr", layer))
            return hidden, cell, gates
        if self.kind == "rnn":
            hidden = self._bend(added + recurrent)
            return hidden, None, (hidden,)
        size = 2 * self.hidden_size
        reset, update = torch.sigmoid(added[:, :size] + recurrent[:, :size]).chunk(2, dim=1)
        candidate = torch.tanh(added[:, size:] + reset * recurrent[:, size:])
        return candidate + update * (hidden - candidate), None, (reset, update, candidate)

    def _weight(self, name: str, layer: int) -> Tensor:
        weight = getattr(self.fused, f"{name}_l{layer}")
        if not isinstance(weight, Tensor):
            raise TypeError(f"{name}_l{layer} is not a tensor")
        return weight


def _lstm_step(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    # The sigmoid of the candidate's part is unused, but one call costs less than three.
    enter, keep, _, show = torch.sigmoid(gates).chunk(4, dim=1)
    candidate = torch.tanh(gates[:, 2 * cell.shape[1] : 3 * cell.shape[1]])
    cell = torch.addcmul(keep * cell, enter, candidate)
    return show * torch.tanh(cell), cell, (enter, keep, candidate, show)


def run_ragged(
    layers: RecurrentLayers, inputs: Tensor, recurrent: RecurrentState, lengths: Tensor
) -> tuple[Tensor, RecurrentState]:
    """Run each row for its own number of steps; finished rows leave the batch.

    Args:
        layers: The layers to run.
        inputs: The inputs, float32 [B, T, I]; row b's steps beyond lengths[b] are ignored.
        recurrent: The state of each row before its first step.
        lengths: The number of steps of each row, 0 to T, int64 [B].

    Returns:
        The output [B, T, H], 0 beyond a row's length, and the state after each row's last step.
    """
    output = inputs.new_zeros(*inputs.shape[:2], layers.output_size)
    hidden = recurrent.hidden.clone()
    cell = None if recurrent.cell is None else recurrent.cell.clone()
    start = 0
    for stop in sorted({length for length in lengths.tolist() if length > 0}):
        rows = (lengths > start).nonzero().squeeze(1)
        active = RecurrentState(hidden[rows], None if cell is None else cell[rows])
        piece, after = layers(inputs[rows, start:stop], active)
        output[rows, start:stop] = piece
        hidden[rows] = after.hidden
        if cell is not None and after.cell is not None:
            cell[rows] = after.cell
        start = stop
    return output, RecurrentState(hidden, cell)
