"""The seasons that a panel can show."""

from ..frequency import YEAR_NS, Frequency
from ..zones import DAY_NS
from .panel import Panel
from .periods import find_periods

WEEK_NS = 7 * DAY_NS
# A cycle can be learned once it has been seen so often.
CYCLES_SEEN = 3
LONGEST_SEASON = 2688
USUAL_SEASON = 24


def season_lags(panel: Panel) -> tuple[int, ...]:
    """The seasons that the data can show: by frequency, or from the data themselves if only position counts."""
    longest = max(series.rows for series in panel.series)
    if not panel.frequency:
        return find_periods([series.values[:, : len(panel.targets)] for series in panel.series])
    step = Frequency.parse(panel.frequency).usual_step_ns
    periods = [round(period / step) for period in (DAY_NS, WEEK_NS) if period % step < step / 100]
    # A year is no whole number of days, but of longer steps nearly.
    if step > DAY_NS:
        periods.append(round(YEAR_NS / step))
    return tuple(
        period for period in dict.fromkeys(periods) if 2 <= period <= min(longest / CYCLES_SEEN, LONGEST_SEASON)
    )
