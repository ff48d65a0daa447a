"""When steps are, for models that declare a frequency: those that are missing, taken before, or yet to come."""

import numpy as np
from numpy.typing import NDArray

from statecast.model import Frequency, FrequencyError
from statecast.service.errors import InvalidRequest, PreconditionFailed, Reason
from statecast.service.times import iso

Rows = NDArray[np.float64]
Times = NDArray[np.int64]
_FIELD = "observations.start_time"


def place(
    rows: Rows, start: int | None, last: int | None, frequency: Frequency, max_steps: int, reach: int
) -> tuple[Rows, list[int]]:
    """The rows with the steps missing before them, and the time of each.

    Args:
        rows: New observations [time, targets and covariates].
        start: The time of the first row in nanoseconds since the epoch; None if it follows on.
        last: The time of the session's last step; None if it has none yet.
        frequency: The time between two steps.
        max_steps: How many steps the rows may span, those missing included.
        reach: How many steps after the rows must have a time, too: those that may be forecast from there.

    Raises:
        InvalidRequest: if the start is missing, off the grid, or leaves too long a gap.
        PreconditionFailed: if the start is not after the session's last step.
    """
    if not len(rows):
        return rows, []
    try:
        follows_on = start if last is None else frequency.add(last, 1)
        if follows_on is None:
            raise InvalidRequest(
                _FIELD, f"missing: the model counts time in steps of {frequency.alias!r}, so a session begins with one"
            )
        gap = 0 if start is None else frequency.steps_between(follows_on, start)
        _check_gap(gap, len(rows), follows_on, start, max_steps)
        rows = np.concatenate([np.full((gap, rows.shape[1]), np.nan), rows])
        frequency.add(follows_on, len(rows) - 1 + reach)
        times = _times(follows_on, len(rows), frequency)
    except FrequencyError as error:
        raise InvalidRequest(_FIELD, str(error)) from error
    return rows, times


def times_up_to(last: int, steps: int, frequency: Frequency) -> list[int]:
    """The times of so many consecutive steps, of which `last` is the last one."""
    return _times(frequency.add(last, 1 - steps), steps, frequency) if steps else []


def times_of_all(lasts: Times, steps: Times, frequency: Frequency) -> Times:
    """The same for many sessions at once, each with its own number of steps [sessions, most steps], padded."""
    if frequency.step_ns is not None:
        ago = steps[:, None] - 1 - np.arange(steps.max())
        times: Times = lasts[:, None] - frequency.step_ns * ago.clip(min=0)
        return times
    times = np.zeros((len(lasts), steps.max()), np.int64)
    for row, last, count in zip(times, lasts.tolist(), steps.tolist(), strict=True):
        row[:count] = times_up_to(last, count, frequency)
    return times


def times_after(lasts: Times, steps: int, frequency: Frequency) -> Times:
    """The times of the next steps of sessions whose last step was at `lasts` [sessions]; [sessions, steps]."""
    if frequency.step_ns is not None:
        return lasts[:, None] + frequency.step_ns * np.arange(1, steps + 1)
    return np.stack([frequency.ahead(lasts, step) for step in range(1, steps + 1)], axis=1)


def _times(first: int, steps: int, frequency: Frequency) -> list[int]:
    if frequency.step_ns is not None:
        return list(range(first, first + steps * frequency.step_ns, frequency.step_ns))
    return [frequency.add(first, step) for step in range(steps)]


def _check_gap(gap: int, steps: int, follows_on: int, start: int | None, max_steps: int) -> None:
    if gap < 0 and start is not None:
        raise PreconditionFailed(
            f"{_FIELD}: {iso(start)} is earlier than {iso(follows_on)}, the session's next step; late observations "
            "are refused",
            Reason.TIME_ORDER,
        )
    if gap + steps > max_steps:
        raise InvalidRequest(_FIELD, f"leaves a gap of {gap} steps; one request may span {max_steps} steps at most")
