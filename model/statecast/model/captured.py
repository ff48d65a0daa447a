"""Many small tensor operations as one call: recorded once, then run without Python in between.

On a CPU most of the time of a step is not computing but calling, some hundred times, and each call lets go of Python's
lock and has to take it again. TorchScript's tracer records what a function of tensors does; it is deprecated in favour
of `torch.compile`, which would need a C++ compiler where the service runs.
"""

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]


class Captured:
    """What functions do, by the key under which each is run.

    A function may branch on nothing but what its key tells, and be of any size of batch, the first dimension of all its
    arguments. What it uses beside them must not change.
    """

    def __init__(self) -> None:
        self._recorded: dict[Hashable, Any] = {}

    def run(self, key: Hashable, function: Function, arguments: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The function's results for arguments, some of which may be missing."""
        given = [each for each in arguments if each is not None]
        missing = tuple(each is None for each in arguments)
        recorded = self._recorded.get((key, missing))
        if recorded is None:
            recorded = self._recorded[key, missing] = _record(function, given, missing)
        results: tuple[Tensor, ...] = recorded(*given)
        return results


def _record(function: Function, given: Sequence[Tensor], missing: Sequence[bool]) -> Any:
    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        left = iter(tensors)
        return function(*(None if is_missing else next(left) for is_missing in missing))

    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        # That it is deprecated, and that branches are recorded as they are taken.
        warnings.simplefilter("ignore")
        # A dimension of 1 could be taken for one that is always 1.
        examples = tuple(torch.cat([each, each]) for each in given)
        return torch.jit.trace(flat, examples, check_trace=False)  # type: ignore[no-untyped-call]
