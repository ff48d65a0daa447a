"""A call about all series of a data frame, without the connection: what to send, and what has come back."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from statecast.v1.reasons import Reason

from ._ask import Ask, Observations, observations
from ._core import SessionCore
from ._frame_reader import (
    Columns,
    Series,
    columns_of_model,
    open_frame,
    read_ids,
    read_series,
    times_of,
    unused_columns,
)
from ._frame_writer import Output
from ._messages import Span
from ._times import NONE, Instants, KnownTimes, dated
from ._zones import zone_info, zone_name
from .errors import NotFound, SeriesFailed, StatecastError, invalid
from .types import Forecast, ModelInfo, Receipt, step_times

SERIES_A_BATCH = 512
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_SESSION = (Reason.SESSION_NOT_FOUND, Reason.SESSION_CLOSED, Reason.SESSION_EXPIRED)


class FrameOptions(TypedDict, total=False):
    """Options of `observe_frame`, `step_frame` and `forecast_frame`.

    Attributes:
        id_col: Column of the series' ids, texts or integers: "unique_id" unless given.
        time_col: Column of the times: "ds" unless given.
        target_col: Column of the values, or several in the order of the model's targets: "y" unless given.
        prefix: Beginning of the sessions' ids, before the ids of the series; empty unless given.
        rows: "new" (unless given) sends only rows later than a session's last time. "all" sends every row.
        model_version: Version of the model, and so on: as for `Client.session`.
        time_to_live: As for `Client.session`.
        time_zone: As for `Client.session`; by default that of the column of times.
        max_ahead: As for `Client.session`.
        frequency: As for `Client.session`: time between two steps, for a model without a frequency.
        progress: True to show a progress bar, which needs tqdm.
        timeout_seconds: Time for each request, of up to 512 series; unless given, the client's, or a minute if
            that is longer.
    """

    id_col: str
    time_col: str
    target_col: str | Sequence[str]
    prefix: str
    rows: Literal["new", "all"]
    model_version: str
    time_to_live: Span | None
    time_zone: str | tzinfo
    max_ahead: Span | None
    frequency: str
    progress: bool
    timeout_seconds: float | None


class Entry:
    """One series of a call, and its outcome.

    Attributes:
        id: Id of the series, as in the frame.
        session: Its session, of either client.
        series: Its rows; None to only forecast.
        when: Their times, in nanoseconds since 1970; empty if the frame has integers.
        first: First row to send.
        seen: Forecast of the session before the call; None if there was no session, or nobody looked.
        outcome: Result or error; None before there is one.
    """

    __slots__ = ("first", "id", "outcome", "seen", "series", "session", "when")

    def __init__(self, id_: Any, series: Series | None) -> None:
        self.id, self.series = id_, series
        self.session: Any = None
        self.when: Instants = NONE
        self.first = 0
        self.seen: Forecast | None = None
        self.outcome: Forecast | Receipt | StatecastError | None = None

    @property
    def core(self) -> SessionCore:
        """The session's core."""
        core: SessionCore = self.session._core
        return core

    @property
    def rows(self) -> int:
        """Number of rows to send."""
        return 0 if self.series is None else len(self.series.values) - self.first


class FrameCall:
    """A call about all series of a frame. The client runs it, batch by batch.

    Attributes:
        ask: What to ask for.
        looks_first: True if the call must know where the sessions stand before it sends anything.
    """

    def __init__(
        self, frame: Any, model: ModelInfo, ask: Ask, options: FrameOptions, future: Any = None, *, observes: bool
    ) -> None:
        targets = options.get("target_col", "y")
        columns = Columns(
            options.get("id_col", "unique_id"),
            options.get("time_col", "ds"),
            () if not observes else (targets,) if isinstance(targets, str) else tuple(targets),
        )
        rows = options.get("rows", "new")
        if rows not in ("new", "all"):
            raise invalid("rows", f"expected 'new' or 'all', got {rows!r}")
        self._frame, self._model, self._observes = open_frame("frame", frame), model, observes
        self.ask = ask
        self._future, self._columns = self._read_future(future, columns), columns
        self._frequency, self._rows = options.get("frequency") or model.frequency, rows
        self.looks_first = (observes and rows == "new") or (future is not None and bool(self._frequency))
        self._entries: list[Entry] = []

    def _read_future(self, future: Any, columns: Columns) -> dict[Any, Series] | None:
        if future is None:
            return None
        if not self._model.covariates:
            raise invalid("future", f"model {self._model.name!r} takes no covariates; leave it out")
        frame = open_frame("future", future)
        columns = columns_of_model("future", frame, columns._replace(targets=()), self._model)
        if not columns.covariates:
            raise invalid("future", f"has none of the covariates {list(self._model.covariates)}, only {frame.columns}")
        return {series.id: series for series in read_series("future", frame, columns._replace(categories=()))}

    def _series(self) -> Iterator[tuple[Any, Series | None]]:
        if not self._observes:
            ids, _ = read_ids("frame", self._frame, self._columns.id)
            return ((id_, None) for id_ in ids)
        columns = columns_of_model("frame", self._frame, self._columns, self._model)
        if unused := unused_columns(self._frame, columns):
            warnings.warn(
                f"the columns {unused} are not sent: model {self._model.name!r} has the covariates "
                f"{list(self._model.covariates)} and the categories {list(self._model.categories)}",
                stacklevel=5,
            )
        return ((series.id, series) for series in read_series("frame", self._frame, columns))

    def begin(self, new_session: Callable[[str, Mapping[str, str]], Any]) -> None:
        """Read the frame; `new_session` returns the session of an id and categories."""
        for id_, series in self._series():
            self._entries.append(entry := Entry(id_, series))
            try:
                entry.session = new_session(str(id_), {} if series is None else series.categories)
                self._read_times(entry)
            except StatecastError as error:
                _fail(entry, error)

    def _read_times(self, entry: Entry) -> None:
        if entry.series is None:
            return
        times = times_of(entry.series)
        if times is None:  # integers
            if self._frequency:
                raise invalid(self._columns.time, f"holds integers, but steps of {self._frequency!r} need times")
            repeated = np.flatnonzero(np.diff(entry.series.times) == 0)
            if repeated.size:
                raise invalid(self._columns.time, f"{entry.series.times[repeated[0]]} is there twice; keep one row")
        else:
            entry.when = dated(observations(entry.series.values, times=times), entry.core.reading).times

    def batches(self) -> Iterator[list[Entry]]:
        """Yield the series that have not failed, in batches."""
        for first in range(0, len(self._entries), SERIES_A_BATCH):
            yield [entry for entry in self._entries[first : first + SERIES_A_BATCH] if entry.outcome is None]

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, batch: Sequence[Entry], seen: Sequence[Forecast | Receipt | StatecastError]) -> None:
        """Take in where the sessions of a batch stand: a forecast of each."""
        for entry, found in zip(batch, seen, strict=True):
            if isinstance(found, Forecast):
                entry.seen = found
                entry.core.version, entry.core.zone_seen = found.version, found.time_zone
                try:
                    self._skip_old(entry, found)
                except StatecastError as error:
                    _fail(entry, error)
            elif isinstance(found, NotFound) and found.reason in _NO_SESSION and self._observes:
                continue
            elif isinstance(found, StatecastError):
                _fail(entry, found)

    def _skip_old(self, entry: Entry, found: Forecast) -> None:
        if entry.series is None or not found.version.step:
            return
        if found.start_time is None:
            raise invalid(
                "rows",
                f"the session has {found.version.step} steps and no frequency, so nothing tells which rows are new; "
                "pass only new rows, with rows='all', or open other sessions with a frequency, as by prefix= and "
                "frequency=",
            )
        self._read_times(entry)  # again: the session's zone is known now
        entry.first = int(np.searchsorted(entry.when, _nanoseconds(found.start_time)))

    def pairs(self, batch: Sequence[Entry]) -> tuple[list[Entry], list[tuple[Any, Observations]]]:
        """Return the series of a batch for which there is something to send, and what."""
        entries, pairs = [], []
        for entry in batch:
            if entry.outcome is not None or not (entry.rows or self.ask.horizon):
                continue
            try:
                pairs.append((entry.session, self._observed(entry)))
                entries.append(entry)
            except StatecastError as error:
                _fail(entry, error)
        return entries, pairs

    def _observed(self, entry: Entry) -> Observations:
        ahead = self._covariates_ahead(entry)
        if entry.series is None or not entry.rows:
            return observations((), future_covariates=ahead)
        known, zone = entry.series.covariates, getattr(times_of(entry.series), "tz", None)
        return observations(
            entry.series.values[entry.first :],
            None if known is None else known[entry.first :],
            ahead,
            times=KnownTimes(entry.when[entry.first :], zone) if self._sends_times(entry) else None,
        )

    def _sends_times(self, entry: Entry) -> bool:
        """Return True if the session may have a frequency, and the frame has times."""
        may_have = self._rows == "all" or self._frequency or (entry.seen is not None and entry.seen.frequency)
        return bool(may_have and entry.when.size)

    def _covariates_ahead(self, entry: Entry) -> NDArray[np.float64] | None:
        """Return the covariates of the steps to forecast, [horizon, covariates]; None if there is no second frame."""
        if self._future is None:
            return None
        future = self._future.get(entry.id)
        if future is None or future.covariates is None:
            raise invalid("future", "has no rows of this series; add them, with NaN where unknown")
        if not self._frequency:
            after = 0 if entry.series is None else np.searchsorted(future.times, entry.series.times[-1], "right")
            return future.covariates[after : after + self.ask.horizon]
        steps = self._steps_ahead(entry)
        known = dated(observations(future.covariates, times=times_of(future)), entry.core.reading).times
        places = np.searchsorted(known, steps)
        missing = np.flatnonzero(known[np.minimum(places, len(known) - 1)] != steps)
        if missing.size:
            moment = np.datetime64(int(steps[missing[0]]), "ns").astype("datetime64[s]")
            raise invalid("future", f"has no row of this series at {moment}Z; add it, with NaN where unknown")
        return future.covariates[places]

    def _steps_ahead(self, entry: Entry) -> Instants:
        """Return the times of the steps to forecast, [horizon]."""
        horizon = self.ask.horizon
        if entry.rows:
            own = getattr(times_of(entry.series) if entry.series else None, "tz", None)
            zone = entry.core.reading.other or entry.core.reading.zone or zone_name(own)
            last = _EPOCH + timedelta(microseconds=int(entry.when[-1]) // 1000)
            steps = step_times(last.astimezone(zone_info(zone)), self._frequency, zone, horizon + 1)[1:]
        elif entry.seen is not None and entry.seen.start_time is not None:
            steps = step_times(entry.seen.start_time, entry.seen.frequency, entry.seen.time_zone, horizon)
        else:
            raise invalid("future", "the session has no observations yet, so its steps ahead have no times")
        instants: Instants = steps.as_unit("ns").asi8
        return instants

    def take(self, entries: Sequence[Entry], outcomes: Sequence[Forecast | Receipt | StatecastError]) -> None:
        """Take in the outcomes of what was sent."""
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, StatecastError):
                _fail(entry, outcome)
            else:
                entry.outcome = outcome

    def result(self) -> Any:
        """Return a frame of the results, of the same library as the caller's.

        Raises:
            SeriesFailed: Some series failed; it holds the frame of the others.
        """
        output = Output(self._frame, self._columns)
        done = [entry for entry in self._entries if not isinstance(entry.outcome, StatecastError)]
        if self.ask.horizon:
            made = output.forecasts(
                [(entry.id, entry.outcome) for entry in done if isinstance(entry.outcome, Forecast)]
            )
        else:
            made = output.counts([(entry.id, entry.rows, _version_step(entry)) for entry in done])
        errors = {each.id: each.outcome for each in self._entries if isinstance(each.outcome, StatecastError)}
        if errors:
            raise SeriesFailed(errors, made, len(self._entries))
        return made


def progress_bar(total: int, *, is_shown: bool) -> Any:
    """Return a progress bar of so many series as a context, with `update(count)`.

    Raises:
        ImportError: It is to be shown, but tqdm is not installed.
    """
    if not is_shown:
        return nullcontext(_NoBar())
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("a progress bar needs tqdm; the extra 'frames' brings it (docs/installation.md)") from error
    return tqdm(total=total, unit="series")


class _NoBar:
    def update(self, count: int) -> None:
        """Show nothing."""


def _version_step(entry: Entry) -> int:
    last = entry.outcome or entry.seen
    return last.version.step if isinstance(last, (Forecast, Receipt)) else 0


def _fail(entry: Entry, error: StatecastError) -> None:
    start = f"series {entry.id!r}: "
    if not error.message.startswith(start):
        error.message = start + error.message
        error.args = (error.message,)
    entry.outcome = error


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
