"""The results of calls: plain, immutable values."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

S = TypeVar("S", bound=np.generic)
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True)
class Version:
    """The position of a session; equal versions mean equal histories.

    Attributes:
        step: Number of time steps since the session was opened, including missing ones.
        tag: Hash chained over every observation since the session was opened.
    """

    step: int
    tag: int

    def __str__(self) -> str:
        return f"{self.step}:{self.tag:016x}"


@dataclass(frozen=True, eq=False)
class Gates:
    """The gates of the recurrent cell in one time step.

    Attributes:
        names: Names of the gates: "input", "forget", "candidate", "output" for an LSTM; "reset", "update", "candidate"
            for a GRU; "candidate" for a tanh RNN, which has no gates.
        values: Gates, from 0 (closed) to 1 (open), and candidates, from -1 to 1: float32 [layers, gates, hidden].
        cell: Cell state after the step, float32 [layers, hidden]; None if the cell has none.
        hidden: Hidden state after the step, float32 [layers, hidden].
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    cell: NDArray[np.float32] | None
    hidden: NDArray[np.float32]


@dataclass(frozen=True)
class Receipt:
    """The server's confirmation that it has stored the observations.

    Attributes:
        version: The session's version after the call.
        opened: True if this call opened the session.
        replayed: True if an earlier call with the same request id had already appended the observations.
        pit: Surprise score of each value, float32 [time, targets], or [values, 1] for a flat list; near 0 or 1 is
            surprising. It is the probability that the previous forecast gave to lower values, plus half of the
            probability of exactly this value. NaN for a missing value, before the session's first forecast, and for a
            model without scores. If a call is sent in parts, NaN also for a replayed part. None for a replay, or if
            nothing was appended.
        gates: Gates of the last appended time step; None unless requested, for a replay, or if nothing was appended.
    """

    version: Version
    opened: bool
    replayed: bool
    pit: NDArray[np.float32] | None = field(default=None, compare=False)
    gates: Gates | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    """Quantiles of the next time steps, in the data's own units; for a model of symbols, their probabilities.

    Attributes:
        session_id: Id of the session.
        version: The session's version after the call; the forecast is for the steps after it.
        opened: True if this call opened the session.
        replayed: True if an earlier call with the same request id had already appended the observations.
        start_time: Time of the first forecast step, in the session's zone; None without a frequency.
        frequency: Time between two steps, as a pandas alias: the model's, or the session's own; empty if only position
            counts.
        targets: Names of the targets.
        quantile_levels: Quantile levels, in the order requested; empty for a model of symbols.
        values: float32 [horizon, levels, targets], for a model of symbols [horizon, classes, targets]; NaN for a target
            without any value so far.
        classes: Symbols that the probabilities belong to; empty for quantiles.
        pit: Surprise score of each value, float32 [time, targets], as in Receipt; None for a replay, or if nothing was
            appended.
        gates: Gates of the last appended time step, as in Receipt.
        time_zone: Name of the session's time zone; empty for UTC.
    """

    session_id: str
    version: Version
    opened: bool
    replayed: bool
    start_time: datetime | None
    frequency: str
    targets: tuple[str, ...]
    quantile_levels: tuple[float, ...]
    values: NDArray[np.float32]
    classes: tuple[str, ...] = ()
    pit: NDArray[np.float32] | None = None
    gates: Gates | None = None
    time_zone: str = ""

    def __repr__(self) -> str:
        what = f"classes={self.classes}" if self.classes else f"quantile_levels={self.quantile_levels}"
        when = "" if self.start_time is None else f", start_time={str(self.start_time)!r}"
        return f"<Forecast of {self.session_id!r} after {self.version}, horizon={self.horizon}{when}, {what}>"

    def _repr_html_(self) -> str:
        from ._html import forecast_html

        return forecast_html(self)

    @property
    def horizon(self) -> int:
        """Number of steps ahead."""
        return len(self.values)

    @property
    def median(self) -> NDArray[np.float32]:
        """The quantile of level 0.5: [horizon], or [horizon, targets] for a model with several targets."""
        return self.quantile(0.5)

    def quantile(self, level: float) -> NDArray[np.float32]:
        """Return one quantile of every step, interpolated linearly between two levels of the forecast.

        Returns:
            [horizon], or [horizon, targets] for a model with several targets.

        Raises:
            ValueError: The level lies outside the levels of the forecast, or the forecast is one of symbols.
        """
        if self.classes:
            raise ValueError(f"a forecast of symbols has no quantiles, but a probability of each: {self.classes}")
        order = sorted(range(len(self.quantile_levels)), key=self.quantile_levels.__getitem__)
        levels = [self.quantile_levels[index] for index in order]
        if not levels or not levels[0] <= level <= levels[-1]:
            raise ValueError(f"level {level:g} lies outside the levels of this forecast: {self.quantile_levels}")
        above = bisect_left(levels, level)
        values = self.values[:, order[above]]
        if levels[above] != level:
            share = (level - levels[above - 1]) / (levels[above] - levels[above - 1])
            values = (1 - share) * self.values[:, order[above - 1]] + share * values
        return self._of_targets(values)

    @property
    def most_likely(self) -> NDArray[np.object_]:
        """The most probable symbol of every step; None for a target without any value so far.

        Returns:
            [horizon], or [horizon, targets] for a model with several targets.

        Raises:
            ValueError: The forecast is one of quantiles.
        """
        self._check_symbols()
        symbols = np.array(self.classes, object)[self.values.argmax(axis=1)]
        symbols[np.isnan(self.values).any(axis=1)] = None
        return self._of_targets(symbols)

    def probability(self, symbol: str) -> NDArray[np.float32]:
        """Return the probability of a symbol in every step.

        Returns:
            [horizon], or [horizon, targets] for a model with several targets.

        Raises:
            ValueError: The model does not know the symbol, or the forecast is one of quantiles.
        """
        self._check_symbols()
        if symbol not in self.classes:
            raise ValueError(f"{symbol!r} is not among the symbols of this forecast: {self.classes}")
        return self._of_targets(self.values[:, self.classes.index(symbol)])

    def _check_symbols(self) -> None:
        if not self.classes:
            raise ValueError(
                f"a forecast of quantiles has no symbols, but a quantile of each level: {self.quantile_levels}"
            )

    def _of_targets(self, values: NDArray[S]) -> NDArray[S]:
        return values[:, 0] if len(self.targets) == 1 else values

    def plot(self, history: Any = None) -> "Figure":
        """Plot the forecast as a matplotlib figure; see `plotting.plot_forecast`."""
        from .plotting import plot_forecast

        return plot_forecast(self, history)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a DataFrame with a row for each step and a column for each level or symbol.

        With several targets, there is a column for each target and level or symbol. The index holds times in the
        session's zone if there is a frequency, else the number of steps ahead, from 1.

        Raises:
            ImportError: pandas is not installed; the extra `pandas` brings it (docs/installation.md).
            InvalidArgument: This machine has no data about the session's zone; `pip install tzdata` brings it.
        """
        import pandas as pd

        index: Any = pd.RangeIndex(1, self.horizon + 1, name="step")
        if self.start_time is not None:
            index = step_times(self.start_time, self.frequency, self.time_zone, self.horizon)
        inner, name = (self.classes, "symbol") if self.classes else (self.quantile_levels, "level")
        columns: Any = pd.Index(inner, name=name)
        if len(self.targets) > 1:
            columns = pd.MultiIndex.from_product([self.targets, inner], names=["target", name])
        return pd.DataFrame(self.values.swapaxes(1, 2).reshape(self.horizon, -1), index, columns)


@dataclass(frozen=True)
class SessionInfo:
    """A session as the server has it.

    Attributes:
        session_id: Id of the session.
        model: Name of the session's model.
        model_version: Version of that model.
        version: Current version of the session.
        time_to_live: How long the server keeps the session after its last observation.
        last_time: Time of the last step, in the session's zone; None if only position counts or there is no
            step yet.
        categories: Static categories, as given when the session was opened.
        time_zone: Name of the time zone whose days the session counts if steps are a day or longer; empty for UTC.
        max_ahead: How far ahead of the server's clock observations may be dated; None for the default.
        frequency: Time between two steps that the session was opened with, as a pandas alias; empty if its model has
            one, or if only position counts.
        alias: Alias of the model that the session follows; empty without one.
    """

    session_id: str
    model: str
    model_version: str
    version: Version
    time_to_live: timedelta
    last_time: datetime | None
    categories: Mapping[str, str] = field(default_factory=dict, hash=False)
    time_zone: str = ""
    max_ahead: timedelta | None = None
    frequency: str = ""
    alias: str = ""


@dataclass(frozen=True)
class Upgraded:
    """A session on the model to which it was moved.

    Attributes:
        version: Version of the session, as before.
        model: Name of its model now.
        model_version: Version of that model.
        reencoded_steps: Number of time steps that its new state was made from; 0 if it was there already.
        exact: True if the new state is that of a session that has taken its whole history on that model.
        replayed: True if an earlier call with the same request id had already moved it.
    """

    version: Version
    model: str
    model_version: str
    reencoded_steps: int
    exact: bool
    replayed: bool


@dataclass(frozen=True)
class ModelInfo:
    """A model of the server: its inputs, outputs and size.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        digest: Hexadecimal hash of configuration and weights.
        frequency: Time between two steps, as a pandas alias; empty if the model counts positions only.
        targets: Names of the targets.
        horizon: Longest forecast, in steps.
        quantile_levels: Quantile levels that the model emits, ascending; empty for a model of symbols.
        cell: Recurrent cell: "lstm", "gru" or "rnn".
        layers: Number of recurrent layers.
        hidden_size: Size of each layer's hidden state.
        window: Number of recent time steps that the state keeps unchanged.
        state_bytes: Size of one session's state, in bytes.
        covariates: Names of the covariates, whose future is known, in the model's order.
        categories: Static categories of a session, with the values that the model knows.
        classes: Symbols that a value can be, by number from 0; empty if values are quantities.
        adaptive: True if intervals adapt online, per session, so that their coverage is right in the long run.
        aliases: Aliases that point to this version.
        policy: Policy of the model: "pin", "follow", or "@" and an alias.
        retired: True if no session begins on this version.
    """

    name: str
    version: str
    digest: str
    frequency: str
    targets: tuple[str, ...]
    horizon: int
    quantile_levels: tuple[float, ...]
    cell: str
    layers: int
    hidden_size: int
    window: int
    state_bytes: int
    covariates: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    classes: tuple[str, ...] = ()
    adaptive: bool = False
    aliases: tuple[str, ...] = ()
    policy: str = "pin"
    retired: bool = False

    def _repr_html_(self) -> str:
        from ._html import model_html

        return model_html(self)


def _on_wall_clock(moment: datetime) -> datetime:
    """Return the local time of a step of days: midnight, even if the clocks skip it."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    meant = midnight if midnight.timestamp() == moment.timestamp() else moment
    return meant.replace(tzinfo=None)


@lru_cache(maxsize=64)  # the sessions of one call usually begin at the same time
def step_times(start: datetime, frequency: str, time_zone: str, steps: int) -> "pd.DatetimeIndex":
    """Return the times of steps from `start` on, [steps], in a session's zone."""
    import pandas as pd
    from pandas.tseries.frequencies import to_offset

    from ._zones import zone_info  # imported late: it needs this module

    offset, zone = to_offset(frequency), zone_info(time_zone)
    try:
        is_absolute = zone is UTC or offset.nanos < DAY_NS
    except ValueError:  # a calendar step, such as a month, has no fixed length
        is_absolute = False
    if is_absolute:
        times = pd.date_range(start.astimezone(UTC), periods=steps, freq=offset, name="time")
        return times.tz_convert(zone)
    days = pd.date_range(_on_wall_clock(start.astimezone(zone)), periods=steps, freq=offset, name="time")
    first = np.ones(steps, bool)
    return days.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
