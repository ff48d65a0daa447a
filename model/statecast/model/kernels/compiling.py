"""How kernels are compiled. Everything in this folder but `switch` needs numba."""

from collections.abc import Callable
from typing import Any

import numba

# Of LLVM's fast-math flags only a fused multiply-add: others would lose NaN, which is a missing value.
_FLAGS = {"contract"}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, without the GIL; division by zero gives infinity."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=_FLAGS, cache=True)(function)


def part(function: Callable[..., Any]) -> Any:
    """Compile a function into the kernels that call it: a call would copy its many arguments."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=_FLAGS, forceinline=True)(function)


class Entry:
    """A kernel to be called from Python, always with arguments of the same types.

    From the second call on, the machine code is called directly: to look at the types of some fifty arrays takes longer
    than many a kernel. Arguments of other types would be misread, so only this package calls kernels.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._direct: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel."""
        if self._direct is not None:
            return self._direct(*arguments)
        result = self._compiled(*arguments)
        self._direct = self._compiled.overloads[tuple(map(numba.typeof, arguments))].entry_point
        return result
