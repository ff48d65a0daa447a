"""Many small tensor operations as one call: recorded once, then run without Python in between.

Most of the time of a step is not computing but calling, some hundred times, and on a CPU each call lets go of Python's
lock and has to take it again. On a CPU TorchScript's tracer records what a function of tensors does; it is deprecated
in favour of `torch.compile`, which would need a C++ compiler where the service runs. On a GPU it is a CUDA graph.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

Arguments: TypeAlias = Sequence[Tensor | None]
Results: TypeAlias = tuple[Tensor, ...]
Function: TypeAlias = Callable[..., Results]
Recorded: TypeAlias = Callable[[Arguments], Results]

log = logging.getLogger(__name__)

_RECORDING = Lock()  # what is done about warnings is done to all threads
SEEN_BEFORE, MOST_SEEN = 3, 1000
SMALLEST_GRAPH, LARGEST_GRAPH = 8, 65_536
"""Rows of a CUDA graph; a larger batch is run without one."""
WARM_UPS = 3
TOLERANCE = 1e-4


class Recorder(Protocol):
    """A way to record."""

    most: int
    """How many functions it should be made to record."""

    def scope(self, arguments: Arguments) -> Hashable:
        """What arguments must have in common with those that a recording was made for; None if they suit none."""

    def record(self, function: Function, arguments: Arguments) -> Recorded:
        """Does once and for all what the function does."""


class Captured:
    """What functions do, by the key under which each is run; for any thread.

    A function may branch on nothing but what its key tells, must not look at a value, and be of any size of batch, the
    first dimension of all its arguments. A row of its results comes from the same row of its arguments, the first of
    which has as many, or from rows that one of them names. What it uses beside them must not change. Recording takes
    some tenths of a second and megabytes, so it is done for what comes again and again, and not for ever more keys.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        """Record by other means than those of the device on which the first arguments are."""
        self._recorder = recorder
        self._recorded: dict[Hashable, Recorded] = {}
        self._seen: Counter[Hashable] = Counter()

    def run(self, key: Hashable, function: Function, arguments: Arguments) -> Results:
        """The function's results for arguments, some of which may be missing."""
        recorder = self._recorder
        if recorder is None:
            on_gpu = any(each is not None and each.is_cuda for each in arguments)
            recorder = self._recorder = CudaGraphs() if on_gpu else TorchScript()
        if (scope := recorder.scope(arguments)) is None:
            return function(*arguments)
        recorded = self._recorded.get((key, scope))
        if recorded is None:
            if not self._is_worth_it((key, scope), recorder.most):
                return function(*arguments)
            recorded = self._record((key, scope), recorder, function, arguments)
        return recorded(arguments)

    def _is_worth_it(self, key: Hashable, most: int) -> bool:
        if len(self._recorded) >= most:
            return False
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        self._seen[key] += 1
        return self._seen[key] >= SEEN_BEFORE

    def _record(self, key: Hashable, recorder: Recorder, function: Function, arguments: Arguments) -> Recorded:
        with _RECORDING:  # another thread may have had the same thought
            if key not in self._recorded:
                self._recorded[key] = _recorded_or_plain(recorder, function, arguments)
            return self._recorded[key]


def _recorded_or_plain(recorder: Recorder, function: Function, arguments: Arguments) -> Recorded:
    """Records the function; keeps to the function itself if that fails or gives other results."""
    try:
        recorded = recorder.record(function, arguments)
        if _agree(recorded(arguments), function(*arguments)):
            return recorded
        reason: object = "the recording gives other results"
    except Exception as error:  # each version of torch refuses other things
        reason = error
    log.warning("the model runs slower, without a recording: %s", reason)
    return lambda arguments: function(*arguments)


def _agree(first: Results, second: Results) -> bool:
    """Compares results but for rounding, which grows with the largest value."""
    return len(first) == len(second) and all(
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.allclose(one.double(), other.double(), rtol=TOLERANCE, atol=TOLERANCE * _size(other), equal_nan=True)
        for one, other in zip(first, second, strict=True)
    )


def _size(tensor: Tensor) -> float:
    return float(tensor.double().nan_to_num(0.0, 0.0, 0.0).abs().max()) if tensor.numel() else 0.0


class TorchScript:
    """Records for batches of any size, by which arguments are missing."""

    most = 24

    def scope(self, arguments: Arguments) -> Hashable:
        """Which are missing; None if there is one without rows."""
        if any(each is not None and each.shape[0] == 0 for each in arguments):
            return None
        return tuple(each is None for each in arguments)

    def record(self, function: Function, arguments: Arguments) -> Recorded:
        """Traces the function."""
        missing = [each is None for each in arguments]

        def flat(*tensors: Tensor) -> Results:
            left = iter(tensors)
            return function(*(None if is_missing else next(left) for is_missing in missing))

        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            # That it is deprecated, and that branches are recorded as they are taken.
            warnings.simplefilter("ignore")
            # A dimension of 1 could be taken for one that is always 1.
            examples = tuple(torch.cat([each, each]) for each in arguments if each is not None)
            traced: Any = torch.jit.trace(flat, examples, check_trace=False)  # type: ignore[no-untyped-call]

        def run(arguments: Arguments) -> Results:
            results: Results = traced(*(each for each in arguments if each is not None))
            return results

        return run


class CudaGraphs:
    """Records for one size of batch out of a few, powers of two: a batch is copied into the next larger one.

    A graph repeats what was done in the same memory, which it shares with the others: so they run one after the other,
    and their results are copied before the next one does. In the rows behind a batch is whatever was there before.
    """

    most = 64

    def __init__(self) -> None:
        self._lock = Lock()
        self._pool: Any = None
        self._has_failed = False

    def scope(self, arguments: Arguments) -> Hashable:
        """The shapes of the memory of the graph's arguments; None if they are too large, or one has no rows."""
        rows = [each.shape[0] for each in arguments if each is not None]
        if self._has_failed or not min(rows) or max(rows) > LARGEST_GRAPH:
            return None
        return tuple(None if each is None else (_graph_rows(each), *each.shape[1:]) for each in arguments)

    def record(self, function: Function, arguments: Arguments) -> Recorded:
        """Captures a graph, if that can be done."""
        with torch.inference_mode(False), torch.no_grad():  # others write to it, in that mode or not
            own = [None if each is None else each.new_zeros(_graph_rows(each), *each.shape[1:]) for each in arguments]
            _fill(own, arguments)
            try:
                with self._lock:
                    results, again = self.capture(lambda: function(*own))
            except RuntimeError as error:  # a step is worth more than its speed
                log.warning("the model runs without CUDA graphs: %s", error)
                self._has_failed = True  # and it is not certain what another attempt would meet
                return lambda arguments: function(*arguments)

        def run(arguments: Arguments) -> Results:
            rows = next(each.shape[0] for each in arguments if each is not None)
            with self._lock:
                _fill(own, arguments)
                again()
                return tuple(result[:rows].clone() for result in results)

        return run

    def capture(self, run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        """What `run` gives, and how to let it be done again, into the same results."""
        aside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                run()
        current.wait_stream(aside)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            results = run()
        return results, graph.replay


def _graph_rows(tensor: Tensor) -> int:
    return max(SMALLEST_GRAPH, 1 << (tensor.shape[0] - 1).bit_length())


def _fill(own: Arguments, given: Arguments) -> None:
    for memory, tensor in zip(own, given, strict=True):
        if memory is not None and tensor is not None:
            memory[: tensor.shape[0]].copy_(tensor)
