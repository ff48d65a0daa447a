"""What calls return: plain, immutable values."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


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


@dataclass(frozen=True)
class Receipt:
    """The server's word that observations are taken and kept.

    Attributes:
        version: Where the session stands.
        opened: Whether this call opened the session.
        replayed: Whether an earlier call with the same request id had appended the observations already.
    """

    version: Version
    opened: bool
    replayed: bool


@dataclass(frozen=True, eq=False)
class Forecast:
    """Quantiles of the next time steps, in the data's own units.

    Attributes:
        session_id: Whose forecast this is.
        version: Where the session stands; the forecast is of the steps after it.
        opened: Whether this call opened the session.
        replayed: Whether an earlier call with the same request id had appended the observations already.
        start_time: The time of the first step, in UTC; None if the model declares no frequency.
        frequency: The time between two steps as a pandas alias; empty if the model declares none.
        targets: The names of the targets.
        levels: The quantile levels, in the order asked for.
        values: float32 [horizon, levels, targets]; NaN for a target that has not had a value yet.
    """

    session_id: str
    version: Version
    opened: bool
    replayed: bool
    start_time: datetime | None
    frequency: str
    targets: tuple[str, ...]
    levels: tuple[float, ...]
    values: NDArray[np.float32]

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
            ValueError: The level lies outside those of the forecast.
        """
        order = sorted(range(len(self.levels)), key=self.levels.__getitem__)
        levels = [self.levels[index] for index in order]
        if not levels or not levels[0] <= level <= levels[-1]:
            raise ValueError(f"level {level:g} lies outside the levels of this forecast: {self.levels}")
        above = bisect_left(levels, level)
        values = self.values[:, order[above]]
        if levels[above] != level:
            share = (level - levels[above - 1]) / (levels[above] - levels[above - 1])
            values = (1 - share) * self.values[:, order[above - 1]] + share * values
        return values[:, 0] if len(self.targets) == 1 else values

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each step and a column for each level, or for each target and level if there are several targets.

        The index holds times if the model declares a frequency, else steps ahead from 1.

        Raises:
            ImportError: pandas is not installed; `pip install 'statecast[pandas]'` brings it.
        """
        import pandas as pd

        index: Any = pd.RangeIndex(1, self.horizon + 1, name="step")
        if self.start_time is not None:
            index = pd.date_range(self.start_time, periods=self.horizon, freq=self.frequency, name="time")
        columns: Any = pd.Index(self.levels, name="level")
        if len(self.targets) > 1:
            columns = pd.MultiIndex.from_product([self.targets, self.levels], names=["target", "level"])
        return pd.DataFrame(self.values.swapaxes(1, 2).reshape(self.horizon, -1), index, columns)


@dataclass(frozen=True)
class SessionInfo:
    """A session as it stands.

    Attributes:
        session_id: Its name.
        model: The name of the model that it runs on.
        model_version: That model's version.
        version: Where it stands.
        time_to_live: How long it is kept after its last observation.
        last_time: The time of its last step, in UTC; None if the model declares no frequency or there is none yet.
    """

    session_id: str
    model: str
    model_version: str
    version: Version
    time_to_live: timedelta
    last_time: datetime | None


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
        levels: The quantile levels that it emits, ascending.
        cell: The recurrent cell: "lstm", "gru" or "rnn".
        layers: How many recurrent layers.
        hidden_size: The size of each layer's hidden state.
        window: How many recent time steps a session keeps as they are.
        state_bytes: The size of one session's state.
    """

    name: str
    version: str
    digest: str
    frequency: str
    targets: tuple[str, ...]
    horizon: int
    levels: tuple[float, ...]
    cell: str
    layers: int
    hidden_size: int
    window: int
    state_bytes: int
