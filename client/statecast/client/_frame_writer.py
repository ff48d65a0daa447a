"""Makes data frames of results, of the library of the caller's own frame."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._frame_reader import Columns, load_narwhals
from .types import Forecast, step_times

if TYPE_CHECKING:
    import narwhals as nw
    import pandas as pd


class Output:
    """Makes frames like the caller's: of its library, with its names of columns and its types of ids and times."""

    def __init__(self, frame: "nw.DataFrame[Any]", columns: Columns) -> None:
        self._frame, self._columns = frame, columns
        self._time = frame.schema.get(columns.time)

    def counts(self, rows: Sequence[tuple[Any, int, int]]) -> Any:
        """Return a frame of ids, numbers of appended rows, and steps of the sessions."""
        return self._frame_of(
            [row[0] for row in rows],
            {
                "appended": np.array([row[1] for row in rows], np.int64),
                "step": np.array([row[2] for row in rows], np.int64),
            },
        )

    def forecasts(self, rows: Sequence[tuple[Any, Forecast]]) -> Any:
        """Return a frame with a row for each id and step ahead, and a column for each quantile or symbol."""
        forecasts = [forecast for _, forecast in rows]
        places: dict[str, int] = {}
        names = [_names(forecast) for forecast in forecasts]
        for own in dict.fromkeys(names):
            for name in own:
                places.setdefault(name, len(places))
        table = np.full((sum(each.horizon for each in forecasts), len(places)), np.nan, np.float32)
        first = 0
        for forecast, own in zip(forecasts, names, strict=True):
            values = forecast.values.swapaxes(1, 2).reshape(forecast.horizon, -1)
            table[first : first + forecast.horizon, [places[name] for name in own]] = values
            first += forecast.horizon
        ids = [id_ for id_, forecast in rows for _ in range(forecast.horizon)]
        when = self._times(forecasts) if any(each.start_time for each in forecasts) else _steps(forecasts)
        return self._frame_of(ids, when | {name: table[:, place] for name, place in places.items()})

    def _times(self, forecasts: Sequence[Forecast]) -> "dict[str, nw.Series[Any]]":
        nw, name = load_narwhals(), self._columns.time
        times = [
            step_times(each.start_time, each.frequency, each.time_zone, each.horizon)
            for each in forecasts
            if each.start_time is not None
        ]
        zones = {each.time_zone for each in forecasts}
        zone = (zones.pop() if len(zones) == 1 else "") or "UTC"
        unit, is_local = "us", self._time == nw.Date
        if self._time == nw.Datetime:
            like: Any = self._time
            unit, is_local, zone = like.time_unit, like.time_zone is None, like.time_zone or zone
        made = self._new(name, np.concatenate([_shown(each, is_local) for each in times]))
        if self._time == nw.Date:
            return {name: made.cast(nw.Date)}
        made = made.cast(nw.Datetime(unit))
        return {name: made if is_local else made.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)}

    def _frame_of(self, ids: list[Any], columns: "dict[str, Any]") -> Any:
        own = self._new(self._columns.id, ids, self._frame.schema[self._columns.id])
        series = {
            name: self._new(name, each) if isinstance(each, np.ndarray) else each for name, each in columns.items()
        }
        return load_narwhals().from_dict({self._columns.id: own, **series}).to_native()

    def _new(self, name: str, values: Any, dtype: Any = None) -> "nw.Series[Any]":
        made: nw.Series[Any] = load_narwhals().new_series(name, values, dtype, backend=self._frame.implementation)
        return made


def _steps(forecasts: Sequence[Forecast]) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the steps ahead, from 1, as a column."""
    return {"step": np.concatenate([np.arange(1, each.horizon + 1) for each in forecasts] or [np.empty(0, np.int64)])}


def _shown(times: "pd.DatetimeIndex", is_local: bool) -> NDArray[np.datetime64]:
    """Return times in UTC, or as the clocks of their zone show them."""
    return (times if is_local else times.tz_convert("UTC")).tz_localize(None).as_unit("ns").to_numpy()


def _names(forecast: Forecast) -> tuple[str, ...]:
    """Return the names of the columns: target by target, if there are several, and in each the levels or symbols."""
    inner = [f"p_{name}" for name in forecast.classes] or [f"q{level:g}" for level in forecast.quantile_levels]
    if len(forecast.targets) == 1:
        return tuple(inner)
    return tuple(f"{target}_{name}" for target in forecast.targets for name in inner)
