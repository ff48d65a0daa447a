"""A batch of session states as named parts, and their layout as bytes.

A session's state is a row of memory, in which each part begins at a multiple of 8 bytes. So a batch is one tensor,
which is copied in one operation, and parts are views of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from .errors import StateError

_TORCH_DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}
_ALIGNED = 8


@dataclass(frozen=True)
class Part:
    """One named part of a session's state.

    Attributes:
        name: The part's name.
        shape: Its shape for one session, without the batch.
        dtype: "float32", "float64" or "int64".
        most: If the numbers say where to read, the largest valid one; what was packed elsewhere is limited to 0..most.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    most: int | None = None

    @property
    def torch_dtype(self) -> torch.dtype:
        """The part's dtype in torch."""
        return _TORCH_DTYPES[self.dtype]

    @property
    def itemsize(self) -> int:
        """The size of one of its numbers, in bytes."""
        return self.torch_dtype.itemsize

    @property
    def nbytes(self) -> int:
        """The size of the part for one session, in bytes."""
        return prod(self.shape) * self.itemsize


class State(Mapping[str, Tensor]):
    """States of a batch of sessions: named tensors, each batch-first."""

    def __init__(
        self, parts: Mapping[str, Tensor] | None, layout: "StateLayout | None" = None, rows: Tensor | None = None
    ) -> None:
        """Hold the parts, or rows with all parts; a given layout is trusted to match them."""
        self._parts, self._rows = None if parts is None else dict(parts), rows
        self.layout = layout

    def __getitem__(self, name: str) -> Tensor:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def parts(self) -> Mapping[str, Tensor]:
        """The tensors by name, each of shape [batch, ...]."""
        if self._parts is None:
            self._parts = self._layout.views(self.rows)
        return self._parts

    @property
    def rows(self) -> Tensor:
        """The sessions as rows of memory, float64 [batch, layout.row_size].

        Raises:
            StateError: The state has no layout.
        """
        if self._rows is None:
            rows = self._layout.new_rows(self.batch_size, next(iter(self.parts.values())).device)
            for name, view in self._layout.views(rows).items():
                view.copy_(self.parts[name])
            self._rows = rows
        return self._rows

    @property
    def _layout(self) -> "StateLayout":
        if self.layout is None:
            raise StateError("state: has no layout")
        return self.layout

    @property
    def batch_size(self) -> int:
        """The number of sessions."""
        return len(self._rows) if self._rows is not None else next(iter(self.parts.values())).shape[0]

    @property
    def device(self) -> torch.device:
        """The device that holds the tensors."""
        return self._rows.device if self._rows is not None else next(iter(self.parts.values())).device

    @classmethod
    def cat(cls, states: Sequence["State"]) -> "State":
        """Join batches, in the order given.

        Raises:
            StateError: There are no states, or their parts differ.
        """
        if not states:
            raise StateError("states: expected at least one")
        layout = states[0].layout
        if layout is not None and all(state.layout is layout for state in states):
            return cls(None, layout, torch.cat([state.rows for state in states]))
        if any(set(state) != set(states[0]) for state in states):
            raise StateError("states: their parts differ")
        return cls({name: torch.cat([state[name] for state in states]) for name in states[0]})

    def select(self, index: Tensor | Sequence[int]) -> "State":
        """Pick sessions by position; index: int64 [N]."""
        index = torch.as_tensor(index, dtype=torch.int64, device=self.device)
        if self._rows is not None:
            return State(None, self.layout, self._rows.index_select(0, index))
        return State({name: part.index_select(0, index) for name, part in self.items()}, self.layout)

    def to(self, device: torch.device | str) -> "State":
        """Move every part to a device."""
        if self._rows is not None:
            return State(None, self.layout, self._rows.to(device))
        return State({name: part.to(device) for name, part in self.items()}, self.layout)

    def detach(self) -> "State":
        """Detach every part from the graph, for truncated backpropagation through time."""
        return State({name: part.detach() for name, part in self.items()}, self.layout)


@dataclass(frozen=True)
class Standing:
    """N sessions in their current state, with their static categories, int64 [N, S], or None if all are unknown."""

    state: State
    categories: Tensor | None = None


@dataclass(frozen=True)
class StateLayout:
    """The parts of a session's state, in the order in which they are packed.

    Attributes:
        parts: All parts, in order.
    """

    parts: tuple[Part, ...]

    @cached_property
    def nbytes(self) -> int:
        """The size of one session's packed state, in bytes."""
        return sum(part.nbytes for part in self.parts)

    @cached_property
    def _starts(self) -> list[int]:
        """Where each part of a row begins, and where the row ends, in bytes."""
        return list(accumulate((-(-part.nbytes // _ALIGNED) * _ALIGNED for part in self.parts), initial=0))

    @property
    def row_size(self) -> int:
        """The length of a row, in numbers of 8 bytes."""
        return self._starts[-1] // _ALIGNED

    @property
    def _is_tight(self) -> bool:
        """Whether rows have no gaps, so that their bytes are the packed state."""
        return self._starts[-1] == self.nbytes

    def start_of(self, name: str) -> int:
        """Return where a part begins in a row, in bytes."""
        return self._starts[[part.name for part in self.parts].index(name)]

    def new_rows(self, batch_size: int, device: torch.device | str) -> Tensor:
        """Return rows of zeros, float64 [batch, row_size]."""
        return torch.zeros(batch_size, self.row_size, dtype=torch.float64, device=device)

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the parts of rows, as views [batch, ...]."""
        by_dtype = {dtype: rows.view(dtype) for dtype in _TORCH_DTYPES.values()}
        return {
            part.name: by_dtype[part.torch_dtype]
            .narrow(1, start // part.itemsize, prod(part.shape))
            .view(len(rows), *part.shape)
            for part, start in zip(self.parts, self._starts, strict=False)
        }

    def initial(self, batch_size: int, device: torch.device | str) -> State:
        """Return all-zero parts, except that the window and the last value are NaN because nothing was observed."""
        rows = self.new_rows(batch_size, device)
        views = self.views(rows)
        for name in {"window", "last"} & views.keys():
            views[name].fill_(torch.nan)
        return State(None, self, rows)

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

    def rows_of(self, state: State) -> Tensor:
        """Return the sessions as rows of this layout, float64 [batch, row_size].

        Raises:
            StateError: The state's parts are not this layout's.
        """
        self.check(state)
        return state.rows if state.layout is self else State(state, self).rows

    def pack(self, state: State) -> list[bytes]:
        """Return each session's state as one contiguous little-endian row.

        Raises:
            StateError: The state's parts are not this layout's.
        """
        batch, size = state.batch_size, self.nbytes
        rows = self.rows_of(state)
        if batch == 0:
            return []
        table = rows.detach().cpu().view(torch.uint8)
        if not self._is_tight:
            pieces = zip(self._starts, self.parts, strict=False)
            table = torch.cat([table.narrow(1, start, part.nbytes) for start, part in pieces], dim=1)
        packed = table.numpy().tobytes()
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
        table = torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8).view(len(rows), -1)
        if self._is_tight:
            # A copy, since products of memory that is aligned otherwise round otherwise.
            return self._limited(State(None, self, table.view(torch.float64).clone().to(device)))
        into = self.new_rows(len(rows), "cpu")
        columns = torch.split(table, [part.nbytes for part in self.parts], dim=1)
        for start, column in zip(self._starts, columns, strict=False):
            into.view(torch.uint8).narrow(1, start, column.shape[1]).copy_(column)
        return self._limited(State(None, self, into.to(device)))

    def _limited(self, state: State) -> State:
        """Limit the parts that say where to read, since an imported session may hold any numbers."""
        for part in self.parts:
            if part.most is not None:
                state[part.name].clamp_(0, part.most)
        return state
