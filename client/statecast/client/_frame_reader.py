"""Reads data frames in the long format: one row for each series and time."""

from collections.abc import Iterator, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ._times import KnownTimes
from ._zones import zone_info
from .errors import invalid
from .types import ModelInfo

if TYPE_CHECKING:
    import narwhals as nw


class FrameLike(Protocol):
    """A data frame of pandas, polars, or another library that narwhals knows."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""

    def __len__(self) -> int:
        """Return the number of rows."""


class Columns(NamedTuple):
    """Names of a frame's columns, and the model's names of further ones.

    Attributes:
        id: Column of the series' ids.
        time: Column of the times.
        targets: Columns of the values.
        covariates: Covariates that the frame has, in the model's order.
        categories: Static categories that the frame has.
    """

    id: str
    time: str
    targets: tuple[str, ...]
    covariates: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


class Series(NamedTuple):
    """The rows of one series, by ascending time.

    Attributes:
        id: Id of the series, as in the frame.
        values: Values, float64 [time, targets].
        times: Times: datetime64 without a zone, `KnownTimes`, or integers, which only give the order.
        covariates: Covariates, float64 [time, covariates]; None without any.
        categories: Static categories of the series.
    """

    id: Any
    values: NDArray[np.float64]
    times: Any
    covariates: NDArray[np.float64] | None
    categories: dict[str, str]


def load_narwhals() -> Any:
    """Return the library that reads frames.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import narwhals
    except ImportError as error:
        raise ImportError(
            "data frames need narwhals and pandas; the extra 'frames' brings them (docs/installation.md)"
        ) from error
    return narwhals


def open_frame(name: str, frame: Any) -> "nw.DataFrame[Any]":
    """Return the frame behind one interface for all libraries.

    Raises:
        InvalidArgument: It is not a data frame, or one that is not computed yet.
    """
    library = load_narwhals()
    try:
        opened: nw.DataFrame[Any] = library.from_native(frame, eager_only=True)
    except TypeError as error:
        advice = "; compute it first, as by collect()" if hasattr(frame, "collect") else ""
        raise invalid(name, f"expected a data frame of pandas or polars, got {type(frame).__name__}{advice}") from error
    return opened


def check_columns(name: str, frame: "nw.DataFrame[Any]", columns: Sequence[str], option: str) -> None:
    """Refuse a frame that lacks one of the columns; `option` is the argument that renames them.

    Raises:
        InvalidArgument: A column is missing.
    """
    for column in columns:
        if column not in frame.columns:
            raise invalid(name, f"has no column {column!r}, only {frame.columns}; name yours by {option}=")


def columns_of_model(name: str, frame: "nw.DataFrame[Any]", columns: Columns, model: ModelInfo) -> Columns:
    """Return the columns with the covariates and categories of the model that the frame has.

    Raises:
        InvalidArgument: Some covariates are there and others are not, or the targets are not as many as the model's.
    """
    check_columns(name, frame, [columns.id], "id_col")
    check_columns(name, frame, [columns.time], "time_col")
    check_columns(name, frame, columns.targets, "target_col")
    if columns.targets and len(columns.targets) != len(model.targets):
        raise invalid(
            "target_col",
            f"names {len(columns.targets)} columns, but model {model.name!r} has the targets {list(model.targets)}; "
            "name their columns in that order",
        )
    missing = [each for each in model.covariates if each not in frame.columns]
    if missing and len(missing) < len(model.covariates):
        raise invalid(name, f"lacks the covariates {missing} of model {model.name!r}; add them, as NaN where unknown")
    covariates = () if missing else model.covariates
    return columns._replace(covariates=covariates, categories=tuple(c for c in model.categories if c in frame.columns))


def unused_columns(frame: "nw.DataFrame[Any]", columns: Columns) -> list[str]:
    """Return the names of the columns that are not sent."""
    used = {columns.id, columns.time, *columns.targets, *columns.covariates, *columns.categories}
    return [column for column in frame.columns if column not in used]


def read_series(name: str, frame: "nw.DataFrame[Any]", columns: Columns) -> Iterator[Series]:
    """Yield the series of a frame, in the order in which their ids come; rows may be in any order.

    Raises:
        InvalidArgument: A column has missing ids or times, or is of the wrong type.
    """
    ids, codes = read_ids(name, frame, columns.id)
    times, zone = _read_times(name, frame, columns.time)
    order = np.lexsort((times, codes))
    times, codes = times[order], codes[order]
    values = _numbers(name, frame, columns.targets)[order]
    covariates = _numbers(name, frame, columns.covariates)[order] if columns.covariates else None
    categories = {each: np.asarray(frame[each].to_list(), object)[order] for each in columns.categories}
    bounds = np.searchsorted(codes, np.arange(len(ids) + 1))
    for id_, first, last in zip(ids, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = slice(first, last)
        yield Series(
            id_,
            values[rows],
            times[rows] if zone is None else KnownTimes(times[rows].astype("datetime64[ns]").astype(np.int64), zone),
            None if covariates is None else covariates[rows],
            {each: _constant(name, each, id_, of_rows[rows]) for each, of_rows in categories.items()},
        )


def read_ids(name: str, frame: "nw.DataFrame[Any]", column: str) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct ids in the order in which they come, and the number of each row's id.

    Raises:
        InvalidArgument: An id is missing, or is neither a text nor an integer.
    """
    check_columns(name, frame, [column], "id_col")
    series = frame[column]
    if series.is_null().any():
        raise invalid(name, f"column {column!r} has rows without an id; drop them")
    given = np.asarray(series.to_numpy())
    if len(given) and not isinstance(given[0], (str, int, np.integer)):
        raise invalid(name, f"column {column!r} holds {given[0]!r}; ids must be texts or integers")
    starts = np.flatnonzero(np.append(True, given[1:] != given[:-1])) if len(given) else np.empty(0, np.int64)
    codes: dict[Any, int] = {}
    of_runs = np.array([codes.setdefault(each, len(codes)) for each in given[starts].tolist()], np.int64)
    return list(codes), np.repeat(of_runs, np.diff(np.append(starts, len(given))))


def times_of(series: Series) -> Any:
    """Return the times to send along; None for integers."""
    return None if getattr(getattr(series.times, "dtype", None), "kind", "M") in "iu" else series.times


def _read_times(name: str, frame: "nw.DataFrame[Any]", column: str) -> tuple[NDArray[Any], tzinfo | None]:
    """Return the times of all rows, and their zone; in UTC if there is one."""
    nw, series = load_narwhals(), frame[column]
    if series.is_null().any():
        raise invalid(name, f"column {column!r} has rows without a time; drop them")
    if series.dtype == nw.Date:
        series = series.cast(nw.Datetime("us"))
    if series.dtype == nw.Datetime:
        zone = getattr(series.dtype, "time_zone", None)
        if zone is None:
            return np.asarray(series.to_numpy()), None
        utc = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return np.asarray(utc.to_numpy()), zone_info(str(zone).removeprefix("UTC") or "UTC")
    if series.dtype.is_integer():
        return np.asarray(series.to_numpy()), None
    raise invalid(
        name,
        f"column {column!r} holds {series.dtype}, not times; convert it, as by pd.to_datetime(frame[{column!r}]), or "
        f"in polars by frame.with_columns(pl.col({column!r}).str.to_datetime())",
    )


def _numbers(name: str, frame: "nw.DataFrame[Any]", columns: Sequence[str]) -> NDArray[np.float64]:
    """Return columns as float64 [rows, columns]; NaN where missing."""
    nw, arrays = load_narwhals(), []
    for column in columns:
        series = frame[column]
        if not series.dtype.is_numeric() and series.dtype != nw.Boolean:
            raise invalid(name, f"column {column!r} holds {series.dtype}, not numbers; convert it, as by astype(float)")
        arrays.append(np.asarray(series.cast(nw.Float64).to_numpy(), np.float64))
    return np.stack(arrays, axis=1) if arrays else np.empty((len(frame), 0))


def _constant(name: str, column: str, id_: Any, values: NDArray[np.object_]) -> str:
    distinct = {str(value) for value in values if value is not None and value == value}
    if len(distinct) > 1:
        raise invalid(name, f"column {column!r} is a category and must not change within series {id_!r}: {distinct}")
    return distinct.pop() if distinct else ""
