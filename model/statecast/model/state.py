"""A batch of session states as named parts, and their layout as bytes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import torch
from torch import Tensor

from .errors import StateError

_TORCH_DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}


@dataclass(frozen=True)
class Part:
    """One named part of a session's state.

    Attributes:
        name: The part's name.
        shape: Its shape for one session, without the batch.
        dtype: "float32", "float64" or "int64".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """The part's dtype in torch."""
        return _TORCH_DTYPES[self.dtype]

    @property
    def nbytes(self) -> int:
        """The size of the part for one session, in bytes."""
        return prod(self.shape) * self.torch_dtype.itemsize


class State(Mapping[str, Tensor]):
    """States of a batch of sessions: named tensors, each batch-first."""

    def __init__(self, parts: Mapping[str, Tensor], layout: "StateLayout | None" = None) -> None:
        """Hold the parts; a given layout is trusted to match them."""
        self._parts = MappingProxyType(dict(parts))
        self.layout = layout

    def __getitem__(self, name: str) -> Tensor:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def parts(self) -> Mapping[str, Tensor]:
        """The tensors by name, each of shape [batch, ...]."""
        return self._parts

    @property
    def batch_size(self) -> int:
        """The number of sessions."""
        return next(iter(self._parts.values())).shape[0]

    @classmethod
    def cat(cls, states: Sequence["State"]) -> "State":
        """Join batches, in the order given.

        Raises:
            StateError: There are no states, or their parts differ.
        """
        if not states:
            raise StateError("states: expected at least one")
        if any(set(state) != set(states[0]) for state in states):
            raise StateError("states: their parts differ")
        layout = states[0].layout if all(state.layout is states[0].layout for state in states) else None
        return cls({name: torch.cat([state[name] for state in states]) for name in states[0]}, layout)

    def select(self, index: Tensor | Sequence[int]) -> "State":
        """Pick sessions by position; index: int64 [N]."""
        index = torch.as_tensor(index, dtype=torch.int64, device=next(iter(self.values())).device)
        return State({name: part.index_select(0, index) for name, part in self.items()}, self.layout)

    def to(self, device: torch.device | str) -> "State":
        """Move every part to a device."""
        return State({name: part.to(device) for name, part in self.items()}, self.layout)

    def detach(self) -> "State":
        """Detach every part from the graph, for truncated backpropagation through time."""
        return State({name: part.detach() for name, part in self.items()}, self.layout)


@dataclass(frozen=True)
class StateLayout:
    """The parts of a session's state, in the order in which they are packed.

    Attributes:
        parts: All parts, in order.
    """

    parts: tuple[Part, ...]

    @property
    def nbytes(self) -> int:
        """The size of one session's state, in bytes."""
        return sum(part.nbytes for part in self.parts)

    def initial(self, batch_size: int, device: torch.device | str) -> State:
        """Return all-zero parts, except that the window and the last value are NaN because nothing was observed."""
        return State(
            {
                part.name: torch.full(
                    (batch_size, *part.shape),
                    float("nan") if part.name in ("window", "last") else 0,
                    dtype=part.torch_dtype,
                    device=device,
                )
                for part in self.parts
            },
            self,
        )

    def check(self, state: State) -> None:
        """Raise StateError if the state's parts, shapes or dtypes are not this layout's."""
        if state.layout is self:
            return
        if set(state) != {part.name for part in self.parts}:
            raise StateError(f"state: expected the parts {[part.name for part in self.parts]}, got {list(state)}")
        for part in self.parts:
            expected = (state.batch_size, *part.shape)
            tensor = state[part.name]
            if tuple(tensor.shape) != expected or tensor.dtype != part.torch_dtype:
                raise StateError(
                    f"{part.name}: expected {part.dtype} of shape {expected}, "
                    f"got {tensor.dtype} of shape {tuple(tensor.shape)}"
                )

    def pack(self, state: State) -> list[bytes]:
        """Return each session's state as one contiguous little-endian row.

        Raises:
            StateError: The state's parts are not this layout's.
        """
        self.check(state)
        batch = state.batch_size
        if batch == 0:
            return []
        rows = torch.cat(
            [state[part.name].detach().cpu().reshape(batch, -1).contiguous().view(torch.uint8) for part in self.parts],
            dim=1,
        )
        packed = rows.numpy().tobytes()
        size = self.nbytes
        return [packed[start : start + size] for start in range(0, batch * size, size)]

    def unpack(self, rows: Sequence[bytes], device: torch.device | str = "cpu") -> State:
        """Read what `pack` wrote.

        Raises:
            StateError: A row does not have this layout's length.
        """
        for position, row in enumerate(rows):
            if len(row) != self.nbytes:
                raise StateError(f"rows[{position}]: expected {self.nbytes} bytes, got {len(row)}")
        if not rows:
            return self.initial(0, device)
        table = torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8)
        sizes = [part.nbytes for part in self.parts]
        columns = torch.split(table.view(len(rows), -1), sizes, dim=1)
        return State(
            {
                part.name: column.contiguous().view(-1).view(part.torch_dtype).view(len(rows), *part.shape).to(device)
                for part, column in zip(self.parts, columns, strict=True)
            },
            self,
        )
