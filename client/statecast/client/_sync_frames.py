# Generated from _async_frames.py by client/generate: change that file.
"""The calls about all series of a data frame.

client/generate makes _sync_frames.py, for the synchronous client, from _async_frames.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from . import _operations
from ._ask import Ask, Observations, observations
from ._frame_calls import FrameCall, FrameOptions, progress_bar
from ._frame_reader import FrameLike
from ._messages import Span
from .errors import StatecastError
from .types import Forecast, ModelInfo, Receipt

if TYPE_CHECKING:
    from ._sync_calls import Session

F = TypeVar("F", bound=FrameLike)
SHORTEST_SECONDS = 60.0
"""Time for a request of hundreds of series, if neither the call nor the client allows for more."""
# A forecast of one step shows when that step is, and so which rows are new.
LOOK, NOTHING = Ask(horizon=1), observations(())


class Frames(ABC):
    """The calls about all series of a data frame; a subclass provides those about sessions."""

    def observe_frame(self, frame: F, model: str = "", **options: Unpack[FrameOptions]) -> F:
        """Append the new rows of all series of a frame, each to a session of the series' id.

        The frame is in the long format: a row for each series and time, with columns of ids, times and values, and of
        the model's covariates and categories by their own names. Rows may be in any order. NaN is a missing value.

        Args:
            frame: Data frame of pandas or polars.
            model: Name of the sessions' model; empty for the server's default model.
            **options: See `FrameOptions`.

        Returns:
            A frame of the same library, with a row for each series: its id, `appended` (rows) and `step` (of its
            session).

        Raises:
            SeriesFailed: Some series failed; the others were appended.
            InvalidArgument: The frame lacks a column, or one is of the wrong type. Nothing was sent.
            ImportError: narwhals is not installed.
        """
        return self._run_frame(frame, model, Ask(), options, observes=True)

    def step_frame(
        self,
        frame: F,
        horizon: int,
        model: str = "",
        *,
        future: FrameLike | None = None,
        quantile_levels: Sequence[float] = (),
        **options: Unpack[FrameOptions],
    ) -> F:
        """Append the new rows of all series of a frame, and forecast each series.

        Args:
            frame: As for `observe_frame`.
            horizon: Number of steps to forecast.
            model: As for `observe_frame`.
            future: Second frame with ids, times and the model's covariates in the steps to forecast.
            quantile_levels: Levels between the model's lowest and highest; empty for the model's own.
            **options: See `FrameOptions`.

        Returns:
            A frame of the same library, with a row for each series and step: id, time (or `step` without a frequency),
            and a column for each quantile, such as `q0.5`. A symbol's probability is in a column such as `p_a`. With
            several targets, the names begin with the target's.

        Raises:
            SeriesFailed: Some series failed; it holds the frame of the others.
            InvalidArgument: As for `observe_frame`.
            ImportError: As for `observe_frame`.
        """
        ask = _operations.ahead(Ask(horizon, quantile_levels))
        return self._run_frame(frame, model, ask, options, future, observes=True)

    def forecast_frame(
        self,
        frame: F,
        horizon: int,
        model: str = "",
        *,
        future: FrameLike | None = None,
        quantile_levels: Sequence[float] = (),
        **options: Unpack[FrameOptions],
    ) -> F:
        """Forecast all series of a frame, without appending anything; their sessions must exist.

        Only the frame's column of ids counts. The other arguments, the result and the errors are those of `step_frame`.
        """
        ask = _operations.ahead(Ask(horizon, quantile_levels))
        return self._run_frame(frame, model, ask, options, future, observes=False)

    def _run_frame(
        self, frame: F, model: str, ask: Ask, options: FrameOptions, future: Any = None, *, observes: bool
    ) -> F:
        """Carry out a call about a frame, batch by batch."""
        given = options.get("timeout_seconds")
        timeout = max(self._timeout(given), SHORTEST_SECONDS) if given is None else self._timeout(given)
        version = options.get("model_version", "")
        info = self.model(model, version, timeout_seconds=timeout)
        call = FrameCall(frame, info, ask, options, future, observes=observes)

        def new_session(series_id: str, categories: Mapping[str, str]) -> "Session":
            return self.session(
                options.get("prefix", "") + series_id,
                model,
                model_version=version,
                time_to_live=options.get("time_to_live"),
                categories=categories,
                time_zone=options.get("time_zone", ""),
                max_ahead=options.get("max_ahead"),
                frequency=options.get("frequency", ""),
                resume_only=not observes,
            )

        call.begin(new_session)
        with progress_bar(len(call), is_shown=options.get("progress", False)) as bar:
            for batch in call.batches():
                if call.looks_first:
                    seen = [(self.session(entry.session.id, resume_only=True), NOTHING) for entry in batch]
                    call.note(batch, self._outcomes(seen, LOOK, timeout))
                entries, pairs = call.pairs(batch)
                call.take(entries, self._outcomes(pairs, ask, timeout))
                bar.update(len(batch))
        result: F = call.result()
        return result

    @abstractmethod
    def _timeout(self, timeout_seconds: float | None) -> float:
        """Return the timeout of one call; None stands for the client's."""

    @abstractmethod
    def session(
        self,
        session_id: str,
        model: str = "",
        *,
        model_version: str = "",
        time_to_live: Span | None = None,
        categories: Mapping[str, str] | None = None,
        time_zone: str | tzinfo = "",
        max_ahead: Span | None = None,
        frequency: str = "",
        resume_only: bool = False,
    ) -> "Session":
        """Return a session by name, without sending anything."""

    @abstractmethod
    def model(self, name: str = "", version: str = "", *, timeout_seconds: float | None = None) -> ModelInfo:
        """Return one model."""

    @abstractmethod
    def _outcomes(
        self, pairs: Sequence[tuple["Session", Observations]], ask: Ask, timeout_seconds: float
    ) -> list[Forecast | Receipt | StatecastError]:
        """Append to many sessions, and forecast if there is a horizon; return the result or error of each."""
