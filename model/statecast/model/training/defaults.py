"""The default configuration of a model for its training data: horizon, lags, half-lives and calendar."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..config import Category, ModelConfig
from ..data.panel import Panel
from ..data.seasons import CYCLES_SEEN, LONGEST_SEASON, USUAL_SEASON, WEEK_NS, season_lags
from ..errors import DataError
from ..frequency import YEAR_NS, Frequency
from ..inputs.known_inputs import SATURDAY, WEEKDAY_OF_1970
from ..zones import DAY_NS

LEVELS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
MONTH_NS = YEAR_NS // 12
MULTIPLES = 7
WINDOW_PERIODS = 4
LONG_SEASON, LONGEST_HORIZON = 96, 1000
# The longest half-life that a configuration allows.
LONGEST_HALF_LIFE = 10_000.0
ADAPTATION_RATE = 0.1


@dataclass(frozen=True)
class Wishes:
    """The user's choices for a model; None chooses by the data.

    Attributes:
        horizon: The longest forecast, in steps.
        lags: Candidate periods, in steps.
        cell: "lstm", "gru" or "rnn".
        layers: The number of recurrent layers.
        hidden_size: The size of each layer's hidden state.
        quantile_levels: Ascending, each between 0 and 1.
        calendar: Whether the model sees the calendar, if there is a frequency.
        adapt: Whether intervals adapt online.
    """

    horizon: int | None = None
    lags: tuple[int, ...] | None = None
    cell: str = "lstm"
    layers: int = 2
    hidden_size: int = 128
    quantile_levels: tuple[float, ...] = LEVELS
    calendar: bool = True
    adapt: bool = True


def configure(panel: Panel, name: str, version: str, wishes: Wishes) -> ModelConfig:
    """Build the configuration of a model for a panel.

    Raises:
        ConfigError: A choice of the user is not possible.
        DataError: The series are too short for a model.
    """
    lags = season_lags(panel) if wishes.lags is None else tuple(sorted(set(wishes.lags)))
    season = lags[0] if lags else 1
    horizon = horizon_for(panel, season, wishes.horizon)
    return ModelConfig(
        name=name,
        version=version,
        cell=wishes.cell,
        layers=wishes.layers,
        hidden_size=wishes.hidden_size,
        head_size=wishes.hidden_size,
        targets=panel.targets,
        horizon=horizon,
        quantile_levels=wishes.quantile_levels,
        window=window_of(lags),
        lags=lags,
        multiples=MULTIPLES,
        frequency=panel.frequency,
        half_lives=_half_lives(season),
        carry_half_lives=(1.0, 10.0),
        error_half_lives=_error_half_lives(season),
        covariates=panel.covariates,
        calendar=calendar_of(panel) if wishes.calendar else (),
        categories=categories_of(panel),
        checked_steps=checked_steps(horizon),
        adaptation_rate=ADAPTATION_RATE if wishes.adapt else 0.0,
    )


def horizon_for(panel: Panel, season: int, wished: int | None) -> int:
    """Return how many steps ahead to forecast series of this season.

    Raises:
        DataError: The series are too short for that.
    """
    horizon = wished or _usual_horizon(panel, season)
    longest = max(series.rows for series in panel.series)
    if longest < 2 * horizon:
        raise DataError(
            f"horizon: {horizon} steps need series of at least {2 * horizon}; the longest has {longest}; choose a "
            "shorter --horizon"
        )
    return horizon


def window_of(lags: Sequence[int]) -> int:
    """Return how many recent steps a session keeps: several periods of the longest lag, within a limit."""
    longest = max(lags, default=USUAL_SEASON)
    wanted = max(WINDOW_PERIODS * longest, MULTIPLES * min(lags, default=1))
    return max(longest, min(wanted, LONGEST_SEASON))


def calendar_of(panel: Panel) -> tuple[str, ...]:
    """Return the cycles of the calendar that the data contain often enough to learn."""
    if not panel.frequency:
        return ()
    step = Frequency.parse(panel.frequency).usual_step_ns
    span = step * max(series.rows for series in panel.series)
    cycles = {"day": DAY_NS, "week": WEEK_NS, "year": YEAR_NS}
    seen = [name for name, length in cycles.items() if 2 * step <= length and CYCLES_SEEN * length <= span]
    if "week" not in seen and step < DAY_NS and _saw_weekend(panel):
        seen.append("weekend")
    return tuple(seen)


def _saw_weekend(panel: Panel) -> bool:
    """Return whether the longest series has rows on both weekends and working days."""
    longest = max(panel.series, key=lambda series: series.rows)
    weekdays = (longest.times(panel.frequency) // DAY_NS + WEEKDAY_OF_1970) % 7
    return bool((weekdays >= SATURDAY).any() and (weekdays < SATURDAY).any())


def categories_of(panel: Panel) -> tuple[Category, ...]:
    """Return the static categories with all values that occur."""
    return tuple(
        Category(name, tuple(sorted({series.categories[at] for series in panel.series})))
        for at, name in enumerate(panel.categories)
    )


def checked_steps(horizon: int) -> tuple[int, ...]:
    """Return the steps ahead whose intervals adapt: first, last, and some between on a logarithmic scale."""
    return tuple(sorted({1, horizon, *(4**power for power in range(1, 7) if 4**power <= horizon / 2)}))


def _usual_horizon(panel: Panel, season: int) -> int:
    """Return one season, or two if it is short, but at most a tenth of the longest series."""
    longest = max(series.rows for series in panel.series)
    wanted = season if season >= USUAL_SEASON else 2 * season
    if season <= 1:
        wanted = USUAL_SEASON
    return int(np.clip(wanted, 1, max(1, min(longest // 10, LONGEST_HORIZON))))


def _half_lives(season: int) -> tuple[float, ...]:
    """Return half-lives of short, medium and long means; the last one also serves the normaliser."""
    season = int(np.clip(season, 6, LONGEST_HALF_LIFE / 2))
    middle = (season / 2,) if season <= LONG_SEASON else (float(LONG_SEASON) / 8, season / 2)
    return (2.0, *middle, 2.0 * season)


def _error_half_lives(season: int) -> tuple[float, ...]:
    """Return half-lives of one season and of many, since errors in one season alone depend on its days."""
    short = float(np.clip(season, 12, LONGEST_HALF_LIFE / 2))
    return (short, float(np.clip(8 * season, 100, LONGEST_HALF_LIFE)))
