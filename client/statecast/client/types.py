"""What calls return: plain, immutable values."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

S = TypeVar("S", bound=np.generic)
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True)
class Version:
    """Where a session stands; equal versions mean equal histories.

    Attributes:
        step: How many time steps the session has taken since it was opened.
        tag: A hash chained over everything that it has taken.
    """

    step: int
    tag: int

    def __str__(self) -> str:
        return f"{self.step}:{self.tag:016x}"


@dataclass(frozen=True, eq=False)
class Gates:
    """What a recurrent cell's gates did in one time step: what it let in, kept and showed.

    Attributes:
        names: "input", "forget", "candidate", "output" of an LSTM; "reset", "update", "candidate" of a GRU; "candidate"
            of a tanh RNN, which has no gates.
        values: How open each was, 0 to 1, and the candidates, -1 to 1, float32 [layers, gates, hidden].
        cell: The cell state after the step, float32 [layers, hidden]; None if the cell has none.
        hidden: The hidden state after the step, float32 [layers, hidden].
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    cell: NDArray[np.float32] | None
    hidden: NDArray[np.float32]


@dataclass(frozen=True)
class Receipt:
    """The server's word that observations are taken and kept.

    Attributes:
        version: Where the session stands.
        opened: Whether this call opened the session.
        replayed: Whether an earlier call with the same request id had appended the observations already.
        pit: For each value the probability that the forecast standing before it gave to lower ones (and half of that of
            exactly this value), float32 [time, targets], or [values, 1] if they were one flat list; near 0 or 1 is
            surprising. NaN where there was no forecast or no value, if the model does not tell, and for a part that
            was answered as a repetition; None if all was, or nothing was appended.
        gates: The gates in the last time step that was appended; None unless asked for, and in a repetition.
    """

    version: Version
    opened: bool
    replayed: bool
    pit: NDArray[np.float32] | None = field(default=None, compare=False)
    gates: Gates | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class Forecast:
    """Quantiles of the next time steps, in the data's own units; or, of a model of symbols, their probabilities.

    Attributes:
        session_id: Whose forecast this is.
        version: Where the session stands; the forecast is of the steps after it.
        opened: Whether this call opened the session.
        replayed: Whether an earlier call with the same request id had appended the observations already.
        start_time: The time of the first step, in the session's zone; None if the model declares no frequency.
        frequency: The time between two steps as a pandas alias; empty if the model declares none.
        targets: The names of the targets.
        quantile_levels: In the order asked for; empty if these are probabilities.
        values: float32 [horizon, levels, targets], or [horizon, classes, targets]; NaN for a target that has not had a
            value yet.
        classes: The symbols whose probabilities these are; empty if these are quantiles.
        pit: As in a Receipt, float32 [time, targets]; None if nothing was appended, or by an earlier call.
        gates: As in a Receipt.
        time_zone: The name of the session's zone; empty for UTC.
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

    @property
    def horizon(self) -> int:
        """How many steps ahead."""
        return len(self.values)

    @property
    def median(self) -> NDArray[np.float32]:
        """The quantile of level 0.5, [horizon], or [horizon, targets] of a model with several targets."""
        return self.quantile(0.5)

    def quantile(self, level: float) -> NDArray[np.float32]:
        """One quantile of every step; between two levels of the forecast it is interpolated linearly.

        Returns:
            [horizon], or [horizon, targets] of a model with several targets.

        Raises:
            ValueError: The level lies outside those of the forecast, or it is one of symbols.
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
        """The most probable symbol of every step; None for a target that has not had a value yet.

        Returns:
            [horizon], or [horizon, targets] of a model with several targets.

        Raises:
            ValueError: This is a forecast of quantiles.
        """
        self._check_symbols()
        symbols = np.array(self.classes, object)[self.values.argmax(axis=1)]
        symbols[np.isnan(self.values).any(axis=1)] = None
        return self._of_targets(symbols)

    def probability(self, symbol: str) -> NDArray[np.float32]:
        """How probable a symbol is in every step.

        Returns:
            [horizon], or [horizon, targets] of a model with several targets.

        Raises:
            ValueError: The model does not know the symbol, or this is a forecast of quantiles.
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

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each step and a column for each level or symbol; for each target and that if there are several.

        The index holds times in the session's zone if the model declares a frequency, else steps ahead from 1.

        Raises:
            ImportError: pandas is not installed; the extra `pandas` brings it (docs/installation.md).
            InvalidArgument: This machine has no data about the session's zone; `pip install tzdata` brings it.
        """
        import pandas as pd

        index: Any = pd.RangeIndex(1, self.horizon + 1, name="step")
        if self.start_time is not None:
            index = self._times(self.start_time)
        inner, name = (self.classes, "symbol") if self.classes else (self.quantile_levels, "level")
        columns: Any = pd.Index(inner, name=name)
        if len(self.targets) > 1:
            columns = pd.MultiIndex.from_product([self.targets, inner], names=["target", name])
        return pd.DataFrame(self.values.swapaxes(1, 2).reshape(self.horizon, -1), index, columns)

    def _times(self, start: datetime) -> "pd.DatetimeIndex":
        import pandas as pd
        from pandas.tseries.frequencies import to_offset

        from ._zones import zone_info  # which needs this module

        offset, zone = to_offset(self.frequency), zone_info(self.time_zone)
        try:
            is_absolute = zone is UTC or offset.nanos < DAY_NS
        except ValueError:  # of steps of the calendar
            is_absolute = False
        if is_absolute:
            steps = pd.date_range(start.astimezone(UTC), periods=self.horizon, freq=offset, name="time")
            return steps.tz_convert(zone)
        days = pd.date_range(_on_wall_clock(start.astimezone(zone)), periods=self.horizon, freq=offset, name="time")
        first = np.ones(self.horizon, bool)
        return days.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")


@dataclass(frozen=True)
class SessionInfo:
    """A session as it stands.

    Attributes:
        session_id: Its name.
        model: The name of the model that it runs on.
        model_version: That model's version.
        version: Where it stands.
        time_to_live: How long it is kept after its last observation.
        last_time: The time of its last step, in its zone; None if the model declares no frequency or there is none yet.
        categories: Its static categories, as they were given when it was opened.
        time_zone: The name of its zone, whose days count where steps are a day or longer; empty for UTC.
        max_ahead: How far ahead of the server's clock its observations may be dated; None for the default.
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


@dataclass(frozen=True)
class ModelInfo:
    """What a model takes and gives.

    Attributes:
        name: Its name.
        version: Its version.
        digest: A digest of configuration and weights, in hexadecimal.
        frequency: The time between two steps as a pandas alias; empty if only position counts.
        targets: The names of the targets.
        horizon: The longest forecast, in steps.
        levels: The quantile levels that it emits, ascending; empty for a model of symbols.
        cell: The recurrent cell: "lstm", "gru" or "rnn".
        layers: How many recurrent layers.
        hidden_size: The size of each layer's hidden state.
        window: How many recent time steps a session keeps as they are.
        state_bytes: The size of one session's state.
        covariates: The names of the covariates, whose future is known, in their order.
        categories: The static categories of a session, and the values that the model knows of each.
        classes: The symbols that a value is one of, by number from 0; empty if values are quantities.
        adaptive: Whether intervals adapt online, session by session, so that they hold in the long run.
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


def _on_wall_clock(moment: datetime) -> datetime:
    """What the clock shows at a step of days: midnight, also where the clocks skip it."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    meant = midnight if midnight.timestamp() == moment.timestamp() else moment
    return meant.replace(tzinfo=None)
