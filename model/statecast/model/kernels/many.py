"""Steps and forecasts of many sessions: kernels for everything around the matrix products, which BLAS does."""

from threading import local

import numpy as np
import torch
from torch import Tensor

from . import cells, few, head, intervals
from .arguments import AHEAD, GRU, STRIDE, Doubles, Floats, Layers, Sizes, Tables, Weights, Whole
from .compiling import Entry

ROWS_AT_ONCE = 1024
"""Rows of a product, which then stays in the processor's cache."""

activate = Entry(cells.activate)
judge_all, take_in = Entry(few.judge_all), Entry(few.take_in)
bend, describe, join, propose = Entry(head.bend), Entry(head.describe), Entry(head.join), Entry(head.propose)
spread, tell_known = Entry(head.spread), Entry(head.tell_known)
wait_all, widen = Entry(intervals.wait_all), Entry(intervals.widen)


class Scratch(local):
    """Memory of a thread for products, kept between batches: fresh memory costs more than the product's sums."""

    def __init__(self) -> None:
        self._buffers: dict[str, tuple[Floats, Tensor]] = {}

    def floats(self, name: str, rows: int, columns: int) -> tuple[Floats, Tensor]:
        """Return an array and a tensor of the same memory, float32 [rows, columns]."""
        found = self._buffers.get(name)
        if found is None or len(found[0]) < rows or found[0].shape[1] != columns:
            array = np.empty((rows, columns), np.float32)
            with torch.inference_mode(False):  # callers in either mode write to this memory
                found = self._buffers[name] = array, torch.from_numpy(array)
        return found[0][:rows], found[1][:rows]


class ManyCells:
    """The recurrent layers of one model; safe for any thread."""

    def __init__(self, sizes: Sizes, layers: Layers, scratch: Scratch) -> None:
        self._sizes, self._gates, self._scratch = sizes, layers.bias.shape[1], scratch
        self._tensors = {name: torch.from_numpy(array) for name, array in layers._asdict().items()}

    def run(self, floats: Floats, after: Floats, inputs: Floats) -> None:
        """Do the work of `cells.run_layers`."""
        sizes, tensors, sessions = self._sizes, self._tensors, len(inputs)
        added, added_tensor = self._scratch.floats("added", sessions, self._gates)
        recurrent, recurrent_tensor = added, added_tensor
        if sizes.cell == GRU:
            recurrent, recurrent_tensor = self._scratch.floats("recurrent", sessions, self._gates)
        output, output_tensor = self._scratch.floats("output", sessions, sizes.hidden)
        below, before = torch.from_numpy(inputs), torch.from_numpy(floats)
        for layer in range(sizes.layers):
            hidden = before.narrow(1, sizes.at_hidden + layer * sizes.hidden, sizes.hidden)
            into = tensors["others"][layer - 1] if layer else tensors["first"]
            torch.addmm(tensors["bias"][layer], below, into, out=added_tensor)
            if sizes.cell == GRU:
                bias = tensors["recurrent_bias"][layer]
                torch.addmm(bias, hidden, tensors["recurrent"][layer], out=recurrent_tensor)
            else:
                added_tensor.addmm_(hidden, tensors["recurrent"][layer])
            activate(added, recurrent, floats, after, sizes, layer, output)
            below = output_tensor


class Many:
    """The stages of one forecaster; safe for any thread."""

    def __init__(self, sizes: Sizes, tables: Tables, layers: Layers, weights: Weights) -> None:
        self._sizes, self._tables, self._weights = sizes, tables, weights
        self._tensors = {name: torch.from_numpy(array) for name, array in weights._asdict().items()}
        self._scratch = Scratch()
        self._cells = ManyCells(sizes, layers, self._scratch)

    def step(
        self, rows: Doubles, after: Doubles, values: Doubles, covariates: Doubles, times: Whole, landing: Whole,
        categories: Whole, found: Whole, inputs: Floats, pit: Doubles,
    ) -> None:  # fmt: skip
        """Do the work of `few.step_few`."""
        sizes, tables, sessions = self._sizes, self._tables, len(rows)
        whole, taken = rows.view(np.int64), after.view(np.int64)
        take_in(
            rows, whole, after, taken, sizes, tables, self._weights, values, covariates, times, categories, found,
            inputs,
        )  # fmt: skip
        self._cells.run(rows.view(np.float32), after.view(np.float32), inputs)
        pit.fill(np.nan)
        if not sizes.checks:
            return
        one, told = np.ones((sessions, 1), np.int64), covariates.reshape(sessions, 1, -1)
        standing = self.quantiles(rows, one, times.reshape(sessions, 1), told, categories)
        judge_all(rows, whole, after, sizes, tables, values, standing, pit)
        if sizes.adapts and sizes.checks > 1:
            self._issue(after, taken[:, sizes.at_step], landing, categories)

    def forecast(
        self, rows: Doubles, steps: Whole, times: Whole, covariates: Doubles, categories: Whole, into: Floats
    ) -> None:
        """Do the work of `few.forecast_few`."""
        quantiles = self.quantiles(rows, steps, times, covariates, categories)
        widen(rows, self._sizes, self._tables, steps, quantiles, into)

    def _issue(self, after: Doubles, taken: Whole, landing: Whole, categories: Whole) -> None:
        """Make the forecasts that will be checked, and keep them in the sessions' rows."""
        tables = self._tables
        due, later = np.nonzero(taken[:, None] % tables.checked[1:, STRIDE] == 0)
        if not len(due):
            return
        steps, unknown = (
            tables.checked[later + 1, AHEAD][:, None],
            np.full((len(due), 1, self._sizes.covariates), np.nan),
        )
        quantiles = self.quantiles(after[due], steps, landing[due, later][:, None], unknown, categories[due])
        wait_all(after, self._sizes, tables, taken.copy(), due, later + 1, quantiles)

    def quantiles(self, rows: Doubles, steps: Whole, times: Whole, covariates: Doubles, categories: Whole) -> Doubles:
        """Forecast chosen steps before intervals are adapted, float64 [N, S, D, Q]; see `few.forecast_few`."""
        sizes, weights, tables = self._sizes, self._weights, self._tables
        sessions, targets, forecasters = len(rows), sizes.targets, sizes.forecasters
        count = sessions * targets
        output, output_tensor = self._scratch.floats("head", sessions, sizes.hidden)
        standing, standing_tensor = self._scratch.floats("standing", count, weights.standing.shape[0])
        units, errors = np.empty((count, 2)), np.empty((count, forecasters), np.float32)
        powers = np.empty((count, forecasters))
        describe(
            rows, rows.view(np.float32), sizes, tables, weights, categories, output, standing, units, errors, powers
        )
        series, series_tensor = self._scratch.floats("series", count, sizes.head)
        by_session = series_tensor.view(sessions, targets * sizes.head)
        torch.addmm(self._tensors["series_bias"], output_tensor, self._tensors["memory"], out=by_session)
        series_tensor.addmm_(standing_tensor, self._tensors["standing"])
        quantiles = np.empty((sessions, steps.shape[1], targets, sizes.levels))
        at_once = max(1, ROWS_AT_ONCE // (steps.shape[1] * targets))
        for start in range(0, sessions, at_once):
            part, own = slice(start, start + at_once), slice(start * targets, (start + at_once) * targets)
            self._spread(
                rows[part], steps[part], times[part], covariates[part], series[own], units[own], errors[own],
                powers[own], quantiles[part],
            )  # fmt: skip
        return quantiles

    def _spread(
        self, rows: Doubles, steps: Whole, times: Whole, covariates: Doubles, series: Floats, units: Doubles,
        errors: Floats, powers: Doubles, quantiles: Doubles,
    ) -> None:  # fmt: skip
        """Run the part of the head that depends on the step ahead."""
        sizes, weights, tables, tensors = self._sizes, self._weights, self._tables, self._tensors
        count, scratch = steps.size * sizes.targets, self._scratch
        offsets, known = np.empty((count, sizes.forecasters)), np.empty((count, sizes.forecasters), np.bool_)
        proposed, proposed_tensor = scratch.floats("proposed", count, sizes.forecasters)
        propose(rows, sizes, tables, steps, times, units, offsets, known, proposed)
        which, of_known = self._known(times, covariates)
        hidden, hidden_tensor = scratch.floats("hidden", count, sizes.head)
        torch.mm(proposed_tensor, tensors["ahead"], out=hidden_tensor)
        join(hidden, series, steps, weights.steps, of_known, which, sizes.targets)
        mixed, mixed_tensor = scratch.floats("mixed", count, sizes.head)
        torch.mm(hidden_tensor, tensors["mix"], out=mixed_tensor)
        bend(mixed, weights.mix_bias)
        emitted, emitted_tensor = scratch.floats("emitted", count, weights.emit.shape[1])
        torch.mm(mixed_tensor, tensors["emit"], out=emitted_tensor)
        spread(rows, sizes, tables, weights, emitted, offsets, known, units, errors, powers, quantiles)

    def _known(self, times: Whole, covariates: Doubles) -> tuple[Whole, Floats]:
        """Return the place of each session among those that differ, and what the known inputs of these contribute."""
        which = np.zeros(len(times), np.int64)
        if not self._sizes.known:
            return which, self._weights.known
        told, told_tensor = self._scratch.floats("told", times.size, self._sizes.known)
        different = tell_known(self._sizes, self._tables, times, covariates, told, which) * times.shape[1]
        of_known, of_known_tensor = self._scratch.floats("of_known", different, self._sizes.head)
        torch.mm(told_tensor[:different], self._tensors["known"], out=of_known_tensor)
        return which, of_known
