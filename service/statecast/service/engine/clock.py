"""Places observations on the time grid of a session that has a frequency, and dates past and future steps.

A step's time lies on the grid of that frequency, the model's or the session's own. For steps shorter than a day it is
an instant. For others it is wall-clock time in the session's zone, so that a clock change moves no midnight off the
grid.
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
    """A session's time grid: steps of a frequency; steps of whole days follow the days of a zone."""

    frequency: Frequency
    zone: Zone

    @property
    def grid_zone(self) -> Zone:
        """Zone of the grid's times: the session's for steps of whole days, else UTC."""
        return self.zone if self.frequency.counts_days else UTC

    def instant(self, time: int) -> int:
        """Return the instant of a step from its time on the grid."""
        return self.grid_zone.instant(time)

    @property
    def usual_max_ahead_ms(self) -> int:
        """Default limit on how far ahead of the server's clock observations may be dated."""
        return max(DAY_NS, USUAL_STEPS_AHEAD * self.frequency.usual_step_ns) // 1_000_000


@dataclass(frozen=True, slots=True)
class Given:
    """The instants that a request gives for its rows: of the first row, of all rows, or none."""

    start: int | None
    times: Times

    def field(self, row: int) -> str:
        """Return the field that dates a row, for errors."""
        if self.times.size:
            return f"observations.times[{row}]"
        is_start = row == 0 and self.start is not None
        return "observations.start_time" if is_start else f"observations.values, time step {row}"

    @property
    def instants(self) -> list[int]:
        """Instants of all rows, of the first row, or none."""
        instants: list[int] = self.times.tolist()
        return instants or ([] if self.start is None else [self.start])


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits on new rows.

    Attributes:
        max_steps: Most steps they may span, missing ones included.
        reach: Number of steps after them that must have a valid time, because they may be forecast.
        now: The server's clock, in nanoseconds since 1970.
        max_ahead_ms: How far ahead of it rows may be dated; 0 for no limit.
    """

    max_steps: int
    reach: int
    now: int
    max_ahead_ms: int

    @property
    def latest(self) -> float:
        """Latest instant that a row may have."""
        return self.now + self.max_ahead_ms * 1_000_000 if self.max_ahead_ms else math.inf


@dataclass(frozen=True, slots=True)
class Placed:
    """Rows on the grid [steps, targets and covariates], NaN where a step is missing, and the time of each step.

    `given` holds the steps of the request's own rows, int64 [rows]; None if they are the last ones.
    """

    rows: Rows
    times: list[int]
    given: Times | None = None


def place(rows: Rows, given: Given, last: int | None, clock: Clock, bounds: Bounds) -> Placed:
    """Place rows on the grid, with the steps missing before and between them.

    Args:
        rows: New observations [time, targets and covariates].
        given: Their instants.
        last: Time of the session's last step; None if it has none yet.
        clock: The session's time grid.
        bounds: Limits on the rows.

    Raises:
        InvalidRequest: if a time is absent, off the grid, not after the previous one, or leaves too long a gap.
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
    """Check that there are no times, or one for each row, each later than the previous one.

    Raises:
        InvalidRequest: if not.
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
            f"{iso(int(times[row]), zone)} is not later than {iso(int(times[row - 1]), zone)}, the time of the "
            "previous row; sort the rows by time, and send one for each time",
        )


def times_up_to(last: int, steps: int, frequency: Frequency) -> list[int]:
    """Return the times of `steps` consecutive steps, the last of them at `last`."""
    return _times(frequency.add(last, 1 - steps), steps, frequency) if steps else []


def times_of_all(lasts: Times, steps: Times, frequency: Frequency) -> Times:
    """Return the times up to each of `lasts`, for each session's own number of steps; padded [sessions, most steps]."""
    if frequency.step_ns is not None:
        ago = steps[:, None] - 1 - np.arange(steps.max())
        times: Times = lasts[:, None] - frequency.step_ns * ago.clip(min=0)
        return times
    times = np.zeros((len(lasts), steps.max()), np.int64)
    for row, last, count in zip(times, lasts.tolist(), steps.tolist(), strict=True):
        row[:count] = times_up_to(last, count, frequency)
    return times


def times_after(lasts: Times, steps: int, frequency: Frequency) -> Times:
    """Return the times [sessions, steps] that follow each session's last step at `lasts` [sessions]."""
    if frequency.step_ns is not None:
        return lasts[:, None] + frequency.step_ns * np.arange(1, steps + 1)
    return np.stack([frequency.ahead(lasts, step) for step in range(1, steps + 1)], axis=1)


def _times(first: int, steps: int, frequency: Frequency) -> list[int]:
    if frequency.step_ns is not None:
        return list(range(first, first + steps * frequency.step_ns, frequency.step_ns))
    times: list[int] = frequency.times(first, steps).tolist()
    return times


def _on_grid(given: Given, last: int | None, clock: Clock) -> list[int]:
    """Return the request's instants as times on the grid, where the time is valid."""
    instants, zone = given.instants, clock.grid_zone
    if not instants or zone == UTC:
        return instants
    # Steps keep their time of day, even on a day when a clock change skips it.
    first = zone.wall(instants[0]) if last is None else last
    every = math.gcd(clock.frequency.step_ns or DAY_NS, DAY_NS)
    return [zone.wall(instant, first, every) for instant in instants]


def _follows_on(times: list[int], last: int | None, clock: Clock) -> int:
    """Return the time of the session's next step."""
    if last is not None:
        return clock.frequency.add(last, 1)
    if not times:
        raise InvalidRequest(
            "observations.start_time",
            f"missing: the session has time steps of {clock.frequency.alias!r}, so its first observations need "
            "start_time or times",
        )
    return times[0]


def _count_steps(times: list[int], given: Given, follows_on: int, last: int | None, clock: Clock) -> list[int]:
    """Return each given time's distance in steps from the session's next step; 0 if no time is given."""
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
    if period != times[wrong]:  # a calendar frequency
        day = period // DAY_NS * DAY_NS + follows_on % DAY_NS
        near = day if frequency.locate(follows_on, np.array([day]))[1][0] else near
    near = max(near, follows_on)  # a time between the last step and the next can only mean the next
    raise _off_grid(wrong, times[wrong], follows_on if last is None else last, near, given, clock)


def _off_grid(row: int, time: int, before: int | None, near: int, given: Given, clock: Clock) -> InvalidRequest:
    """Return the error for a time that is off the grid, with the nearest valid time or another fix."""
    zone, frequency = clock.zone, clock.frequency
    own = given.instants[row]
    if before is None:
        problem = f"{iso(own, zone)} is not on the grid of steps of {frequency.alias!r}"
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
    """Refuse a time that is much too far away before counting steps, which would take time in proportion."""
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
            f"{iso(given.instants[row - 1], zone)}, the time of the previous row; send one row for each step",
        )
    missing = steps[-1] + 1 - len(steps)
    if missing + rows > max_steps:
        gaps = np.diff(steps, prepend=-1) - 1
        row = int(gaps.argmax())
        raise _too_long(row, int(gaps[row]), missing + rows, given, clock, max_steps)


def _too_long(row: int, gap: int, span: int, given: Given, clock: Clock, max_steps: int) -> InvalidRequest:
    """Return the error for rows that span too many steps because of gaps in time; `gap` is the longest."""
    alias = clock.frequency.alias
    rest = "send the rows" if gap < max_steps else "send NaN for the steps between"
    return InvalidRequest(
        given.field(row),
        f"leaves a gap of {gap} steps of {alias!r}; with it the request spans {span} steps, more than {max_steps}. If "
        f"the time is right and the data come every {alias!r}, {rest} in several requests",
        Reason.SPAN_TOO_LONG,
    )


def _too_far_ahead(instants: Iterable[int], given: Given, clock: Clock, bounds: Bounds) -> PreconditionFailed:
    """Return the error for rows too far ahead: a gap up to them could not be undone."""
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
