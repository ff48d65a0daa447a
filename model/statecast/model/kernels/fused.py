"""One step, and the forecasts, of a forecaster by kernels."""

from typing import Any

import numpy as np

from ..inputs.periods import find_periods, is_due
from . import few
from .arguments import Doubles, Floats, Whole, layers_of, sizes_of, tables_of, weights_of
from .compiling import Entry
from .many import Many

step_few, forecast_few = Entry(few.step_few), Entry(few.forecast_few)
FEW = 4
"""Up to so many sessions, products in the kernels beat BLAS."""


class Fused:
    """The kernels of one forecaster, with its weights as they are now; safe for any thread.

    A row is a session's state, as `StateLayout.new_rows` lays it out.
    """

    def __init__(self, forecaster: Any) -> None:
        self.sizes, self._tables, self._weights = sizes_of(forecaster), tables_of(forecaster), weights_of(forecaster)
        self._layers = layers_of(forecaster.cell)
        self._many = Many(self.sizes, self._tables, self._layers, self._weights)

    def step(
        self, rows: Doubles, values: Doubles, covariates: Doubles, times: Whole, landing: Whole, categories: Whole
    ) -> tuple[Doubles, Doubles, Floats]:
        """Take N sessions one observation further.

        Args:
            rows: The sessions, float64 [N, R]; stay as they are.
            values, covariates: The observations, NaN where missing, float64 [N, D] and [N, C].
            times: Their times, int64 [N]; any numbers without a calendar.
            landing: The times of the checked steps after them but the first, int64 [N, checks - 1].
            categories: The sessions' categories, int64 [N, categories].

        Returns:
            The rows after, the values' positions in the forecasts before them, float64 [N, D], and the inputs of the
            recurrent layers, float32 [N, I].
        """
        after, pit = np.empty_like(rows), np.empty((len(rows), self.sizes.targets))
        inputs = np.empty((len(rows), self.sizes.inputs), np.float32)
        found = self._periods(rows, values)
        if len(rows) > FEW:
            self._many.step(rows, after, values, covariates, times, landing, categories, found, inputs, pit)
        else:
            step_few(
                rows, rows.view(np.float32), rows.view(np.int64), after, after.view(np.float32), after.view(np.int64),
                self.sizes, self._tables, self._layers, self._weights, values, covariates, times, landing, categories,
                found, inputs, pit,
            )  # fmt: skip
        return after, pit, inputs

    def _periods(self, rows: Doubles, values: Doubles) -> Whole:
        """Return the periods of sessions after an observation, int64 [N, D, K]; empty unless they find their own."""
        sizes, sessions = self.sizes, len(rows)
        if not sizes.finds:
            return np.empty((sessions, 0, 0), np.int64)
        whole, start = rows.view(np.int64), sizes.at_window + sizes.targets
        found = whole[:, sizes.at_periods : sizes.at_periods + sizes.targets * sizes.slots]
        found = found.reshape(sessions, sizes.targets, sizes.slots).copy()
        due = is_due(whole[:, sizes.at_step] + 1).nonzero()[0]
        if len(due):
            window = rows[due, start : start + (sizes.window - 1) * sizes.targets]
            window = np.concatenate([window, values[due]], axis=1).reshape(len(due), sizes.window, sizes.targets)
            windows = np.ascontiguousarray(window.swapaxes(1, 2)).reshape(-1, sizes.window)
            chosen = find_periods(windows, found[due].reshape(-1, sizes.slots))
            found[due] = chosen.reshape(len(due), sizes.targets, sizes.slots)
        return found

    def forecast(self, rows: Doubles, steps: Whole, times: Whole, covariates: Doubles, categories: Whole) -> Floats:
        """Forecast chosen steps of N sessions.

        Args:
            rows: The sessions, float64 [N, R].
            steps: The steps ahead, from 1, int64 [N, S].
            times: Their times, int64 [N, S]; any numbers without a calendar.
            covariates: Their covariates, NaN where not known, float64 [N, S, C].
            categories: The sessions' categories, int64 [N, categories].

        Returns:
            The quantiles, float32 [N, S, Q, D].
        """
        into = np.empty((len(rows), steps.shape[1], self.sizes.levels, self.sizes.targets), np.float32)
        if len(rows) > FEW:
            self._many.forecast(rows, steps, times, covariates, categories, into)
        else:
            forecast_few(
                rows, rows.view(np.float32), self.sizes, self._tables, self._weights, steps, times, covariates,
                categories, into,
            )  # fmt: skip
        return into
