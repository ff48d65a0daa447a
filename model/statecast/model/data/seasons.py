"""Find the seasons of a panel."""

from ..frequency import YEAR_NS, Frequency
from ..zones import DAY_NS
from .panel import Panel
from .periods import find_periods

WEEK_NS = 7 * DAY_NS
# A season can be learned only if the data contain it this often.
CYCLES_SEEN = 3
LONGEST_SEASON = 2688
USUAL_SEASON = 24


def season_lags(panel: Panel) -> tuple[int, ...]:
    """Return the season lengths in steps: from the frequency, or from the values if only position counts."""
    longest = max(series.rows for series in panel.series)
    if not panel.frequency:
        return find_periods([series.values[:, : len(panel.targets)] for series in panel.series])
    step = Frequency.parse(panel.frequency).usual_step_ns
    periods = [round(period / step) for period in (DAY_NS, WEEK_NS) if period % step < step / 100]
    # A year is not a whole number of days, but nearly a whole number of longer steps.
    if step > DAY_NS:
        periods.append(round(YEAR_NS / step))
    return tuple(
        period for period in dict.fromkeys(periods) if 2 <= period <= min(longest / CYCLES_SEEN, LONGEST_SEASON)
    )
