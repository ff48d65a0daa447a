"""A model whose state is a hash of all its values, and whose forecast reveals that state, so no error stays hidden."""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from statecast.model import Future, Gates, ModelConfig, ObservationError, Part, State, StateLayout

HORIZON = 32
"""Number of the last observations that a forecast contains."""
LARGEST_VALUE = 2**24 - 1
"""Whole numbers up to here are exact in float32."""
LEVELS = (0.1, 0.5, 0.9)
_PIECES = 4  # of 16 bits, each exact in float32
_START = 0


class Told(NamedTuple):
    """The state of a session, as a forecast of this model reveals it."""

    step: int
    hash: int
    last: tuple[int, ...]
    """The last observations, newest first, at most `HORIZON` of them."""


def link(before: int, value: float) -> int:
    """Return the hash after one more value."""
    content = struct.pack("<Qd", before, value)
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, person=b"chain-model").digest(), "little")


def hashes_along(values: Iterable[float]) -> list[int]:
    """Return the hashes before the first value and after each value."""
    hashes = [_START]
    for value in values:
        hashes.append(link(hashes[-1], value))
    return hashes


def chain_after(values: Iterable[float]) -> int:
    """Return the hash of a session that has taken these values."""
    return hashes_along(values)[-1]


def told_after(values: Iterable[int]) -> Told:
    """Return the state that a session must reveal after these values."""
    taken = tuple(values)
    return Told(len(taken), chain_after(taken), taken[: -HORIZON - 1 : -1])


def read(values: NDArray[np.float32]) -> Told:
    """Return the state that a forecast of the whole horizon reveals.

    Args:
        values: float32 [horizon, levels, targets].

    Raises:
        ValueError: If the model cannot have made this forecast.
    """
    if values.shape != (HORIZON, len(LEVELS), 1):
        raise ValueError(f"not a whole forecast of the chain model, but one of shape {values.shape}")
    last, hash_, step = values[:, 0, 0], _join(values[:_PIECES, 1, 0]), _join(values[:_PIECES, 2, 0])
    present = [int(value) for value in last[:step] if np.isfinite(value)]
    if len(present) != min(step, HORIZON) or not np.array_equal(last[: len(present)], present):
        raise ValueError(f"{step} observations are taken, but the last ones are {last.tolist()}")
    return Told(step, hash_, tuple(present))


def _split(number: int) -> list[int]:
    return [number >> 16 * piece & 0xFFFF for piece in range(_PIECES)]


def _join(pieces: NDArray[np.float32]) -> int:
    return sum(int(piece) << 16 * position for position, piece in enumerate(pieces))


@dataclass(frozen=True)
class HashContext:
    """N sessions at some step: hashes and steps int64 [N], last values float64 [N, H], oldest first."""

    hashes: Tensor
    steps: Tensor
    last: Tensor


@dataclass(frozen=True)
class HashTrace:
    """The result of advancing B sessions by up to T values each."""

    state: State
    lengths: Tensor
    pit: Tensor
    _steps: Tensor
    _hashes: Tensor
    _history: Tensor

    def context(self, rows: Tensor, steps: Tensor) -> HashContext:
        """Return the sessions as they were after some of their new observations."""
        if bool(((steps < 0) | (steps > self.lengths[rows])).any()):
            raise ObservationError("steps: beyond the observations of this trace")
        windows = self._history.unfold(1, HORIZON, 1)
        return HashContext(self._hashes[rows, steps], self._steps[rows] + steps, windows[rows, steps])

    def gates(self, row: int, step: int) -> Gates:
        """Raise ObservationError: this model has no gates."""
        raise ObservationError("a chain has no gates")


class HashModel:
    """A model that takes whole numbers up to LARGEST_VALUE; see `statecast.model.StreamingModel`."""

    def __init__(self) -> None:
        self.config = ModelConfig(
            name="chain", version="1", horizon=HORIZON, quantile_levels=LEVELS, window=HORIZON, lags=(1,)
        )
        self.device = torch.device("cpu")
        # The layout fills a part named "window" with NaN at first: no values seen yet.
        window = Part("window", (HORIZON,), "float64")
        self.layout = StateLayout((Part("hash", (), "int64"), Part("step", (), "int64"), window))

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.config).encode()).hexdigest()

    def initial_state(self, batch_size: int) -> State:
        return self.layout.initial(batch_size, self.device)

    def advance(self, state: State, values: Tensor, lengths: Tensor | None = None, **_: Tensor | None) -> HashTrace:
        self.layout.check(state)
        batch, time = values.shape[:2]
        lengths = torch.full((batch,), time) if lengths is None else lengths
        history = torch.cat([state["window"], values[:, :, 0]], dim=1)
        hashes = torch.zeros(batch, time + 1, dtype=torch.int64)
        for row, length in enumerate(lengths.tolist()):
            before = int(state["hash"][row]) % 2**64
            chain = [before]
            for value in values[row, :length, 0].tolist():
                chain.append(link(chain[-1], value))
            hashes[row, : length + 1] = torch.from_numpy(np.array(chain, np.uint64).view(np.int64))
        every = torch.arange(batch)
        after = {
            "hash": hashes[every, lengths],
            "step": state["step"] + lengths,
            "window": history.unfold(1, HORIZON, 1)[every, lengths].clone(),
        }
        return HashTrace(State(after), lengths, torch.full_like(values, torch.nan), state["step"], hashes, history)

    def context(self, state: State, categories: Tensor | None = None) -> HashContext:
        return HashContext(state["hash"], state["step"], state["window"])

    def forecast(self, context: Any, horizon: int, future: Future | None = None) -> Tensor:
        if not 1 <= horizon <= HORIZON:
            raise ObservationError(f"horizon: expected 1 to {HORIZON} steps, got {horizon}")
        told = torch.zeros(len(context.steps), HORIZON, len(LEVELS), 1)
        told[:, :, 0, 0] = context.last.flip(1).float()
        for column, numbers in ((1, context.hashes), (2, context.steps)):
            pieces = [_split(number % 2**64) for number in numbers.tolist()]
            told[:, :_PIECES, column, 0] = torch.tensor(pieces, dtype=torch.float32).reshape(-1, _PIECES)
        return told[:, :horizon]
