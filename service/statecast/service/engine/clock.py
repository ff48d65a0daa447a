"""When steps are, for models that declare a frequency: those that are missing, taken before, or yet to come.

A step's time lies on the grid of the model's frequency. Of steps shorter than a day it is an instant. Of others it is
what the clock shows in the session's zone, so that a change of the clocks moves no midnight off the grid.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from statecast.model import UTC, Frequency, FrequencyError, Zone
from statecast.service.errors import InvalidRequest, PreconditionFailed
from statecast.service.times import NANOSECONDS, iso
from statecast.v1.reasons import Reason

Rows = NDArray[np.float64]
Times = NDArray[np.int64]
DAY_NS = 86_400_000_000_000
USUAL_STEPS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Clock:
    """How a session counts time: in steps of a frequency, those of days by the days of a zone."""

    frequency: Frequency
    zone: Zone

    @property
    def grid_zone(self) -> Zone:
        """The zone whose clock the times of the grid are read from."""
        return self.zone if self.frequency.counts_days else UTC

    def instant(self, time: int) -> int:
        """The instant of a step, from its time on the grid."""
        return self.grid_zone.instant(time)

    @property
    def usual_max_ahead_ms(self) -> int:
        """How far ahead of the server's clock observations may be dated, unless the session says otherwise."""
        return max(DAY_NS, USUAL_STEPS_AHEAD * self.frequency.usual_step_ns) // 1_000_000


@dataclass(frozen=True, slots=True)
class Given:
    """The instants that a request gives its rows: that of the first one, those of all, or none."""

    start: int | None
    times: Times

    def field(self, row: int) -> str:
        """The field that dates a row, as errors name it."""
        if self.times.size:
            return f"observations.times[{row}]"
        is_start = row == 0 and self.start is not None
        return "observations.start_time" if is_start else f"observations.values, time step {row}"

    @property
    def instants(self) -> list[int]:
        """The instants of all rows, of the first one, or none."""
        instants: list[int] = self.times.tolist()
        return instants or ([] if self.start is None else [self.start])


@dataclass(frozen=True, slots=True)
class Bounds:
    """What rows must not go beyond.

    Attributes:
        max_steps: How many steps they may span, those missing included.
        reach: How many steps after them must have a time, too: those that may be forecast from there.
        now: The server's clock, in nanoseconds since 1970.
        max_ahead_ms: How far ahead of it they may be dated; 0 for any time.
    """

    max_steps: int
    reach: int
    now: int
    max_ahead_ms: int

    @property
    def latest(self) -> float:
        """The latest instant that a row may have."""
        return self.now + self.max_ahead_ms * 1_000_000 if self.max_ahead_ms else math.inf


@dataclass(frozen=True, slots=True)
class Placed:
    """Rows on the grid [steps, targets and covariates], NaN where a step is missing, and the time of each step.

    `given` tells which of the steps the request's rows are, int64 [rows]; None if they are the last ones.
    """

    rows: Rows
    times: list[int]
    given: Times | None = None


def place(rows: Rows, given: Given, last: int | None, clock: Clock, bounds: Bounds) -> Placed:
    """The rows with the steps missing before and between them.

    Args:
        rows: New observations [time, targets and covariates].
        given: When they are.
        last: The time of the session's last step; None if it has none yet.
        clock: How the session counts time.
        bounds: What they must not go beyond.

    Raises:
        InvalidRequest: if a time is absent, off the grid, not after the one before it, or leaves too long a gap.
        PreconditionFailed: if a time lies before the session's next step, or too far ahead.
    """
    check_order(given.times, len(rows), clock.zone)
    if not len(rows):
        return Placed(rows, [])
    if given.instants and given.instants[-1] > bounds.latest:
        raise _too_far_ahead(given.instants, given, clock, bounds)
    try:
        times = _on_grid(given, last, clock)
        follows_on = _follows_on(times, last, clock)
        _check_late(times, given, last, follows_on, clock)
        _check_far(times, given, follows_on, clock, bounds.max_steps)
        steps = _count_steps(times, given, follows_on, last, clock)
        _check_steps(steps, len(rows), given, clock, bounds.max_steps)
        span = steps[-1] + (1 if given.times.size else len(rows))
        clock.frequency.add(follows_on, span - 1 + bounds.reach)
        all_times = _times(follows_on, span, clock.frequency)
    except FrequencyError as error:
        raise InvalidRequest(given.field(0), str(error)) from error
    if clock.instant(all_times[-1]) > bounds.latest:
        raise _too_far_ahead(map(clock.instant, all_times[steps[0] :]), given, clock, bounds)
    if span == len(rows):
        return Placed(rows, all_times)
    placed = np.full((span, rows.shape[1]), np.nan)
    where = np.array(steps) if given.times.size else None
    placed[slice(span - len(rows), None) if where is None else where] = rows
    return Placed(placed, all_times, where)


def check_order(times: Times, rows: int, zone: Zone) -> None:
    """Whether times, if there are any, are those of so many rows, each later than the one before it.

    Raises:
        InvalidRequest: if they are not.
    """
    if not times.size:
        return
    if times.size != rows:
        raise InvalidRequest("observations.times", f"{times.size} times for {rows} rows of values; give one for each")
    wrong = np.flatnonzero(times[1:] <= times[:-1])
    if wrong.size:
        row = int(wrong[0]) + 1
        raise InvalidRequest(
            f"observations.times[{row}]",
            f"{iso(int(times[row]), zone)} is not later than {iso(int(times[row - 1]), zone)}, the time of the row "
            "before it; sort the rows by time, and send one for each time",
        )


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
    times: list[int] = frequency.times(first, steps).tolist()
    return times


def _on_grid(given: Given, last: int | None, clock: Clock) -> list[int]:
    """The times that a request gives, of all rows or of the first one, as the grid has them."""
    instants, zone = given.instants, clock.grid_zone
    if not instants or zone == UTC:
        return instants
    # A session's steps keep their time of day, which the clocks may skip once a year.
    first = zone.wall(instants[0]) if last is None else last
    every = math.gcd(clock.frequency.step_ns or DAY_NS, DAY_NS)
    return [zone.wall(instant, first, every) for instant in instants]


def _follows_on(times: list[int], last: int | None, clock: Clock) -> int:
    """The time of the session's next step."""
    if last is not None:
        return clock.frequency.add(last, 1)
    if not times:
        raise InvalidRequest(
            "observations.start_time",
            f"missing: the model counts time in steps of {clock.frequency.alias!r}, so a session's first observations "
            "need a start_time, or times",
        )
    return times[0]


def _count_steps(times: list[int], given: Given, follows_on: int, last: int | None, clock: Clock) -> list[int]:
    """How many steps after the session's next one its given times are; 0 for the first row if none is given."""
    frequency = clock.frequency
    if not times:
        return [0]
    if last is None and (near := frequency.period_of(follows_on)) != follows_on:
        raise _off_grid(0, follows_on, None, near, given, clock)
    if len(times) == 1 and frequency.step_ns is not None:
        steps, rest = divmod(times[0] - follows_on, frequency.step_ns)
        located, wrong = [steps], 0 if rest else None
    else:
        numbers, fits = frequency.locate(follows_on, np.array(times, np.int64))
        located, wrong = numbers.tolist(), None if fits.all() else int(fits.argmin())
    if wrong is None:
        return located
    near = frequency.add(follows_on, located[wrong])
    period = frequency.period_of(times[wrong])
    if period != times[wrong]:  # of the calendar
        day = period // DAY_NS * DAY_NS + follows_on % DAY_NS
        near = day if frequency.locate(follows_on, np.array([day]))[1][0] else near
    near = max(near, follows_on)  # what lies between the last step and the next one can only be the next one
    raise _off_grid(wrong, times[wrong], follows_on if last is None else last, near, given, clock)


def _off_grid(row: int, time: int, before: int | None, near: int, given: Given, clock: Clock) -> InvalidRequest:
    """The error of a time that is not on the grid, with what to do about it."""
    zone, frequency = clock.zone, clock.frequency
    own = given.instants[row]
    if before is None:
        problem = f"{iso(own, zone)} is not a time of the model's steps of {frequency.alias!r}"
    else:
        after = iso(clock.instant(before), zone)
        problem = f"{iso(own, zone)} is not a whole number of steps of {frequency.alias!r} after {after}"
    shifted = time % DAY_NS if before is None else (time - before) % DAY_NS
    if frequency.counts_days and zone.is_fixed and shifted:
        days = f"with days of {zone.name}" if zone.name else "with days of UTC"
        advice = (
            f"the session counts {days}; if these are local midnights, open it with time_zone='Europe/...', the IANA "
            "name of their zone (close it first if it exists)"
        )
    else:
        advice = f"the step around it is dated {iso(clock.instant(near), zone)}"
        if frequency.counts_days and before is not None and before % DAY_NS:
            advice += ", at the time of day of the session's first observation"
    return InvalidRequest(given.field(row), f"{problem}; {advice}")


def _check_late(times: list[int], given: Given, last: int | None, follows_on: int, clock: Clock) -> None:
    if not times or last is None or times[0] > last:
        return
    next_step = iso(clock.instant(follows_on), clock.zone)
    raise PreconditionFailed(
        f"{given.field(0)}: {iso(given.instants[0], clock.zone)} is earlier than {next_step}, the session's next step; "
        f"late observations are refused, so send only those from {next_step} on",
        Reason.TIME_ORDER,
    )


def _check_far(times: list[int], given: Given, follows_on: int, clock: Clock, max_steps: int) -> None:
    """Refuse what is much too far away before its steps are counted, which would take the longer the farther it is."""
    if times and times[-1] - follows_on > 2 * max_steps * clock.frequency.usual_step_ns:
        steps = (times[-1] - follows_on) // clock.frequency.usual_step_ns
        gaps = [after - before for before, after in pairwise([follows_on, *times])]
        row = gaps.index(max(gaps))
        raise _too_long(row, gaps[row] // clock.frequency.usual_step_ns, steps + 1, given, clock, max_steps)


def _check_steps(steps: list[int], rows: int, given: Given, clock: Clock, max_steps: int) -> None:
    zone, alias = clock.zone, clock.frequency.alias
    if len(steps) > 1 and (same := np.flatnonzero(np.diff(steps) <= 0)).size:
        row = int(same[0]) + 1
        raise InvalidRequest(
            given.field(row),
            f"{iso(given.instants[row], zone)} is in the same step of {alias!r} as "
            f"{iso(given.instants[row - 1], zone)}, the time of the row before it; send one row for each step",
        )
    missing = steps[-1] + 1 - len(steps)
    if missing + rows > max_steps:
        gaps = np.diff(steps, prepend=-1) - 1
        row = int(gaps.argmax())
        raise _too_long(row, int(gaps[row]), missing + rows, given, clock, max_steps)


def _too_long(row: int, gap: int, span: int, given: Given, clock: Clock, max_steps: int) -> InvalidRequest:
    """The error of rows that span more steps than one request may, because of gaps in time; this is the longest."""
    alias = clock.frequency.alias
    rest = "send the rows" if gap < max_steps else "send NaN for the steps between"
    return InvalidRequest(
        given.field(row),
        f"leaves a gap of {gap} steps of {alias!r}; with it one request would span {span} steps, and {max_steps} is "
        f"the most. If the time is right and the data come every {alias!r}, {rest} in several requests",
        Reason.SPAN_TOO_LONG,
    )


def _too_far_ahead(instants: Iterable[int], given: Given, clock: Clock, bounds: Bounds) -> PreconditionFailed:
    """The error of rows at these instants; a gap up to there could not be taken back."""
    row, ahead = next((row, instant) for row, instant in enumerate(instants) if instant > bounds.latest)
    zone, now = clock.zone, bounds.now // NANOSECONDS * NANOSECONDS
    return PreconditionFailed(
        f"{given.field(row)}: {iso(ahead, zone)} is further ahead of the server's clock, {iso(now, zone)}, than the "
        f"{_span(bounds.max_ahead_ms)} that this session allows; correct the time, or open the session with a larger "
        "max_ahead, 0 for any time (close it first if it exists)",
        Reason.TIME_AHEAD,
    )


def _span(milliseconds: int) -> str:
    days = milliseconds / 86_400_000
    return f"{days:.3g} days" if days >= 2 else f"{days * 24:.3g} hours"
