"""Many small tensor operations as one call: recorded once, then run without Python in between.

On a CPU most of the time of a step is not computing but calling, some hundred times, and each call lets go of Python's
lock and has to take it again. TorchScript's tracer records what a function of tensors does; it is deprecated in favour
of `torch.compile`, which would need a C++ compiler where the service runs.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]

_RECORDING = Lock()  # what is done about warnings is done to all threads
SEEN_BEFORE, MOST_SEEN, MOST_RECORDED = 3, 1000, 24


class Captured:
    """What functions do, by the key under which each is run.

    A function may branch on nothing but what its key tells, and be of any size of batch, the first dimension of all its
    arguments. What it uses beside them must not change. Recording takes some tenths of a second and megabytes, so it is
    done for what comes again and again, and not for ever more keys.
    """

    def __init__(self) -> None:
        self._recorded: dict[Hashable, Any] = {}
        self._seen: Counter[Hashable] = Counter()

    def run(self, key: Hashable, function: Function, arguments: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The function's results for arguments, some of which may be missing."""
        missing = tuple(each is None for each in arguments)
        recorded = self._recorded.get((key, missing))
        if recorded is None:
            if not (_has_rows(arguments) and self._is_worth_it((key, missing))):
                return function(*arguments)
            recorded = self._record((key, missing), function, arguments)
        results: tuple[Tensor, ...] = recorded(*(each for each in arguments if each is not None))
        return results

    def _is_worth_it(self, key: Hashable) -> bool:
        if len(self._recorded) >= MOST_RECORDED:
            return False
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        self._seen[key] += 1
        return self._seen[key] >= SEEN_BEFORE

    def _record(self, key: Hashable, function: Function, arguments: Sequence[Tensor | None]) -> Any:
        with _RECORDING:  # another thread may have had the same thought
            if key not in self._recorded:
                self._recorded[key] = _record(function, arguments)
            return self._recorded[key]


def _has_rows(arguments: Sequence[Tensor | None]) -> bool:
    return all(each is None or each.shape[0] > 0 for each in arguments)


def _record(function: Function, arguments: Sequence[Tensor | None]) -> Any:
    missing = [each is None for each in arguments]

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        left = iter(tensors)
        return function(*(None if is_missing else next(left) for is_missing in missing))

    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        # That it is deprecated, and that branches are recorded as they are taken.
        warnings.simplefilter("ignore")
        # A dimension of 1 could be taken for one that is always 1.
        examples = tuple(torch.cat([each, each]) for each in arguments if each is not None)
        return torch.jit.trace(flat, examples, check_trace=False)  # type: ignore[no-untyped-call]
