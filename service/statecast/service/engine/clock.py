"""Where observations fall in time, for models that declare a frequency: gaps become missing steps."""

import numpy as np
from numpy.typing import NDArray

from statecast.model import Frequency, FrequencyError
from statecast.service.errors import InvalidRequest, PreconditionFailed, Reason
from statecast.service.times import iso

Rows = NDArray[np.float64]
_FIELD = "observations.start_time"


def place(
    rows: Rows, start: int | None, last: int | None, frequency: Frequency, max_steps: int
) -> tuple[Rows, list[int]]:
    """The rows with the steps missing before them, and the time of each.

    Args:
        rows: New observations [time, targets].
        start: The time of the first row in nanoseconds since the epoch; None if it follows on.
        last: The time of the session's last step; None if it has none yet.
        frequency: The time between two steps.
        max_steps: How many steps the rows may span, those missing included.

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
        # One more than there are rows: the next step must have a time, too.
        times = [frequency.add(follows_on, step) for step in range(len(rows) + 1)]
    except FrequencyError as error:
        raise InvalidRequest(_FIELD, str(error)) from error
    return rows, times[:-1]


def _check_gap(gap: int, steps: int, follows_on: int, start: int | None, max_steps: int) -> None:
    if gap < 0 and start is not None:
        raise PreconditionFailed(
            f"{_FIELD}: {iso(start)} is earlier than {iso(follows_on)}, the session's next step; late observations "
            "are refused",
            Reason.TIME_ORDER,
        )
    if gap + steps > max_steps:
        raise InvalidRequest(_FIELD, f"leaves a gap of {gap} steps; one request may span {max_steps} steps at most")
