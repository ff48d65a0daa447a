"""Record many small tensor operations of a GPU once, as a CUDA graph, then run them without Python in between.

Most of a step's time goes to some hundred calls, not to computing. On a CPU, compiled kernels do the same work instead.
"""

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any, TypeAlias

import torch
from torch import Tensor

Arguments: TypeAlias = Sequence[Tensor | None]
Results: TypeAlias = tuple[Tensor, ...]
Function: TypeAlias = Callable[..., Results]
Recorded: TypeAlias = Callable[[Arguments], Results]

log = logging.getLogger(__name__)

_RECORDING = Lock()  # because filters of warnings affect all threads
SEEN_BEFORE, MOST_SEEN = 3, 1000
SMALLEST_GRAPH, LARGEST_GRAPH = 8, 65_536
"""The smallest and largest number of rows of a CUDA graph; a larger batch runs without a graph."""
WARM_UPS = 3
TOLERANCE = 1e-4


class Captured:
    """Recordings of functions, by key; safe for any thread.

    A function may branch only on what its key determines, and must not read values of tensors. It must take batches of
    any size; the batch is the first dimension of all arguments. A row of its results may depend on the same row of the
    arguments, or on rows whose numbers are in an argument. Results have as many rows as the first argument. Everything
    else that the function uses must stay constant.

    Recording takes tenths of a second and some megabytes. So only repeated keys are recorded, up to a limit.
    """

    def __init__(self, recorder: "CudaGraphs | None" = None) -> None:
        """Set the recorder; None records on a GPU only."""
        self._recorder = recorder
        self._recorded: dict[Hashable, Recorded] = {}
        self._seen: Counter[Hashable] = Counter()

    def run(self, key: Hashable, function: Function, arguments: Arguments) -> Results:
        """Return the function's results for arguments, some of which may be None."""
        recorder = self._recorder
        if recorder is None:
            if not any(each is not None and each.is_cuda for each in arguments):
                return function(*arguments)
            recorder = self._recorder = CudaGraphs()
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

    def _record(self, key: Hashable, recorder: "CudaGraphs", function: Function, arguments: Arguments) -> Recorded:
        with _RECORDING:  # another thread may be recording the same function
            if key not in self._recorded:
                self._recorded[key] = _recorded_or_plain(recorder, function, arguments)
            return self._recorded[key]


def _recorded_or_plain(recorder: "CudaGraphs", function: Function, arguments: Arguments) -> Recorded:
    """Record the function; return the function itself if recording fails or gives other results."""
    try:
        recorded = recorder.record(function, arguments)
        if _agree(recorded(arguments), function(*arguments)):
            return recorded
        reason: object = "the recording gives other results"
    except Exception as error:  # versions of torch differ in the functions that they refuse
        reason = error
    log.warning("the model runs slower, without a recording: %s", reason)
    return lambda arguments: function(*arguments)


def _agree(first: Results, second: Results) -> bool:
    """Return whether results agree except for rounding, which grows with the largest value."""
    return len(first) == len(second) and all(
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.allclose(one.double(), other.double(), rtol=TOLERANCE, atol=TOLERANCE * _size(other), equal_nan=True)
        for one, other in zip(first, second, strict=True)
    )


def _size(tensor: Tensor) -> float:
    return float(tensor.double().nan_to_num(0.0, 0.0, 0.0).abs().max()) if tensor.numel() else 0.0


class CudaGraphs:
    """A recorder of CUDA graphs for batch sizes that are powers of two; a batch is copied into the next larger size.

    A graph repeats its operations in fixed memory, which all graphs share. So graphs run one after another, and results
    are copied before the next graph runs. The rows after a batch hold remains of earlier batches.
    """

    most = 64

    def __init__(self) -> None:
        self._lock = Lock()
        self._pool: Any = None
        self._has_failed = False

    def scope(self, arguments: Arguments) -> Hashable:
        """Return the shapes of the graph's arguments; None if they are too large, or one has no rows."""
        rows = [each.shape[0] for each in arguments if each is not None]
        if self._has_failed or not min(rows) or max(rows) > LARGEST_GRAPH:
            return None
        return tuple(None if each is None else (_graph_rows(each), *each.shape[1:]) for each in arguments)

    def record(self, function: Function, arguments: Arguments) -> Recorded:
        """Capture a graph; return the function itself if that fails."""
        with torch.inference_mode(False), torch.no_grad():  # callers in either mode write to this memory
            own = [None if each is None else each.new_zeros(_graph_rows(each), *each.shape[1:]) for each in arguments]
            _fill(own, arguments)
            try:
                with self._lock:
                    results, again = self.capture(lambda: function(*own))
            except RuntimeError as error:  # a slow answer is better than none
                log.warning("the model runs without CUDA graphs: %s", error)
                self._has_failed = True  # the device's state is uncertain, so there is no second attempt
                return lambda arguments: function(*arguments)

        def run(arguments: Arguments) -> Results:
            rows = next(each.shape[0] for each in arguments if each is not None)
            with self._lock:
                _fill(own, arguments)
                again()
                return tuple(result[:rows].clone() for result in results)

        return run

    def capture(self, run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        """Return the results of `run`, and a function that repeats it into the same results."""
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
