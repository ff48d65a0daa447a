"""What the kernels need of a forecaster: its sizes, the constants of its statistics, and its weights."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..config import ModelConfig
from ..frequency import Frequency
from ..inputs.features import step_size
from ..intervals.calibration import Calibrator
from ..layers.cells import RecurrentLayers
from ..layers.decayed_sums import decayed_weights, mean_ages
from ..state import StateLayout

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Whole = NDArray[np.int64]

LSTM, GRU, RNN = range(3)
CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
GATES = (4, 3, 1)
"""How many times the hidden size a layer's product has, by cell."""
DAY, WEEKEND, WEEK, YEAR = range(4)
CYCLES = {"day": DAY, "weekend": WEEKEND, "week": WEEK, "year": YEAR}
AHEAD, STRIDE, SLOTS, START = range(4)
"""Columns of a checked step: itself, the steps between two checked forecasts, and where and how many of these wait."""
PADDED_TO = 16
"""Columns of the head's output come in multiples of this: BLAS is up to three times slower with other numbers."""
MOST_COUNTS = 2048
"""Weights of decayed sums are looked up for smaller counts, and computed for larger ones."""


class Sizes(NamedTuple):
    """Sizes of a forecaster, and where the parts of a session's row begin: in numbers of the part's own type."""

    targets: int
    covariates: int
    window: int
    slots: int
    finds: bool
    multiples: int
    means: int
    carries: int
    memories: int
    forecasters: int
    judges: int
    levels: int
    median: int
    hidden: int
    layers: int
    cell: int
    inputs: int
    step_inputs: int
    head: int
    known: int
    static: int
    checks: int
    waiting: int
    adapts: bool
    step_ns: int
    tells_days: bool
    at_hidden: int
    at_cell: int
    at_window: int
    at_last: int
    at_count: int
    at_lowest: int
    at_highest: int
    at_means: int
    at_periods: int
    at_carries: int
    at_error_counts: int
    at_errors: int
    at_factors: int
    at_misses: int
    at_waiting: int
    at_step: int


class Tables(NamedTuple):
    """Constants: of the statistics, the past periods, the checked steps and the known inputs.

    Attributes:
        mean_decay, carry_decay, error_decay: Logarithms of the decay per step, [M], [R], [E].
        carry_kept, error_kept: The decay per step, [R], [E].
        mean_weights, carry_weights, error_weights: Sums of the weights of 0 to MOST_COUNTS - 1 steps, [M, counts] etc.
        mean_ages: Mean ages of so many steps, [M, counts].
        lags: The periods of all sessions, int64 [K]; empty if each session finds its own.
        levels, sides, tails, sharpness, starts: Of each quantile, see `Calibrator`, [Q].
        own, least, largest: Of each checked step, [checks]; `common`: of each and each quantile, [checks, Q].
        checked: The checked steps ahead, see AHEAD, STRIDE, SLOTS and START, int64 [checks, 4].
        places: Position of each step ahead among the checked ones, [horizon].
        widths: Distances between the quantiles of a normal distribution, [Q - 1].
        cycles: Calendar cycles, int64.
        centres, scales: Of the covariates, [C].
        embedded: Where each category's embeddings begin, and how long each is, int64 [S, 2].
    """

    mean_decay: Doubles
    carry_decay: Doubles
    error_decay: Doubles
    carry_kept: Doubles
    error_kept: Doubles
    mean_weights: Doubles
    carry_weights: Doubles
    error_weights: Doubles
    mean_ages: Doubles
    lags: Whole
    levels: Doubles
    sides: Doubles
    tails: Doubles
    sharpness: Doubles
    starts: Doubles
    own: Doubles
    common: Doubles
    least: Doubles
    largest: Doubles
    checked: Whole
    places: Doubles
    widths: Doubles
    cycles: Whole
    centres: Doubles
    scales: Doubles
    embedded: Whole


class Layers(NamedTuple):
    """Weights of the recurrent layers, transposed: products run along memory.

    Attributes:
        first: The first layer's inputs, [I, gates x H].
        others: The inputs of further layers, [L - 1, H, gates x H].
        recurrent: [L, H, gates x H].
        bias, recurrent_bias: [L, gates x H]; but unless the cell is a GRU, `bias` is their sum.
    """

    first: Floats
    others: Floats
    recurrent: Floats
    bias: Floats
    recurrent_bias: Floats


class Weights(NamedTuple):
    """Weights of the head and the embeddings, transposed likewise. Absent ones are empty.

    Attributes:
        memory, standing, ahead, known: Parts of the head's first layer, [H, D x G], [X, G], [F, G], [K, G]; those of
            embeddings follow `standing`.
        series_bias: Of all of these, [D x G].
        steps: Of each step ahead, [horizon, G].
        mix, emit, mix_bias, emit_bias: Further layers of the head, [G, G], [G, F + 1 + Q and padding], ...
        trust: How much the head trusts in errors, [1].
        embeddings: Of all categories, one after the other.
    """

    memory: Floats
    standing: Floats
    ahead: Floats
    known: Floats
    series_bias: Floats
    steps: Floats
    mix: Floats
    emit: Floats
    mix_bias: Floats
    emit_bias: Floats
    trust: Floats
    embeddings: Floats


def sizes_of(forecaster: Any) -> Sizes:
    """Return the sizes of a forecaster."""
    config: ModelConfig = forecaster.config
    naive, layout, calibrator = forecaster.naive, forecaster.layout, forecaster.calibrator
    step_ns = Frequency.parse(config.frequency).step_ns if config.frequency else None
    return Sizes(
        targets=len(config.targets),
        covariates=len(config.covariates),
        window=config.window,
        slots=naive.slots,
        finds=naive.finds,
        multiples=config.multiples,
        means=naive.means,
        carries=naive.carries,
        memories=naive.memories,
        forecasters=naive.size,
        judges=naive.judges,
        levels=len(config.quantile_levels),
        median=calibrator.middle,
        hidden=config.hidden_size,
        layers=config.layers,
        cell=CELLS[config.cell],
        inputs=forecaster.cell.fused.input_size,
        step_inputs=step_size(naive),
        head=config.head_size,
        known=forecaster.known.size,
        static=forecaster.known.static_size,
        checks=calibrator.later + 1 if calibrator.is_on else 0,
        waiting=int(calibrator.slots.sum()),
        adapts=calibrator.adapts,
        step_ns=step_ns or 0,
        tells_days=naive.days.is_on,
        **_starts(layout),
    )


def _starts(layout: StateLayout) -> dict[str, int]:
    names = {"stretches": "factors"}
    starts = {
        f"at_{names.get(part.name, part.name)}": layout.start_of(part.name) // part.itemsize for part in layout.parts
    }
    return {name: starts.get(name, 0) for name in Sizes._fields if name.startswith("at_")}


def tables_of(forecaster: Any) -> Tables:
    """Return the constants of a forecaster."""
    config: ModelConfig = forecaster.config
    naive, known, calibrator = forecaster.naive, forecaster.known, forecaster.calibrator
    counts = torch.arange(MOST_COUNTS, dtype=torch.float64)
    embedded = []
    start = 0
    for each in known.embeddings:
        embedded.append((start, each.embedding_dim))
        start += each.weight.numel()
    nothing = np.zeros(0)
    return Tables(
        mean_decay=array_of(naive.mean_decay),
        carry_decay=array_of(naive.carry_decay),
        error_decay=array_of(naive.error_decay),
        carry_kept=array_of(naive.carry_decay.exp()),
        error_kept=array_of(naive.error_decay.exp()),
        mean_weights=_by_count(naive.mean_decay, counts),
        carry_weights=_by_count(naive.carry_decay, counts),
        error_weights=_by_count(naive.error_decay, counts),
        mean_ages=array_of(mean_ages(counts.clamp(min=2), naive.mean_decay.unsqueeze(1))),
        lags=array_of(naive.lags),
        **_of_intervals(calibrator),
        widths=array_of(forecaster.head.widths).astype(np.float64),
        cycles=np.array([CYCLES[name] for name in config.calendar], np.int64),
        centres=array_of(known.centres) if known.covariates else nothing,
        scales=array_of(known.scales) if known.covariates else nothing,
        embedded=np.array(embedded, np.int64).reshape(-1, 2),
    )


def _by_count(decay: Tensor, counts: Tensor) -> Doubles:
    weights: Doubles = array_of(decayed_weights(counts, decay.unsqueeze(1)))
    return weights


def _of_intervals(calibrator: Calibrator) -> dict[str, Any]:
    names = ("levels", "sides", "tails", "sharpness", "starts", "common", "places")
    found = {name: array_of(getattr(calibrator, name)) for name in names}
    later = (functional.pad(each, (int(calibrator.is_on), 0)) for each in (calibrator.slots, calibrator.slot_starts))
    found["checked"] = array_of(torch.stack([calibrator.checked, calibrator.strides, *later], dim=1))
    return found | {name: array_of(getattr(calibrator, name)).reshape(-1) for name in ("own", "least", "largest")}


def weights_of(forecaster: Any) -> Weights:
    """Return the weights of a forecaster, and copies of them as the kernels need them."""
    head, known = forecaster.head, forecaster.known
    size = head.size
    nothing = np.zeros((0, size), np.float32)
    series_bias = head.memory.bias + (head.standing.bias + head.ahead.bias).repeat(head.targets)
    tables = [each.weight.reshape(-1) for each in known.embeddings]
    return Weights(
        memory=array_of(head.memory.weight.t()),
        standing=array_of(torch.cat([each.weight.t() for each in (head.standing, head.static) if each is not None])),
        ahead=array_of(head.ahead.weight.t()),
        known=nothing if head.known is None else array_of(head.known.weight.t()),
        series_bias=array_of(series_bias),
        steps=array_of(head.of_steps(torch.arange(1, forecaster.config.horizon + 1, device=head.steps.device))),
        mix=array_of(head.mix.weight.t()),
        emit=array_of(functional.pad(head.emit.weight.t(), (0, -head.emit.out_features % PADDED_TO))),
        mix_bias=array_of(head.mix.bias),
        emit_bias=array_of(head.emit.bias),
        trust=array_of(head.trust.reshape(1)),
        embeddings=array_of(torch.cat(tables)) if tables else np.zeros(0, np.float32),
    )


def layers_of(cell: RecurrentLayers) -> Layers:
    """Return the weights of recurrent layers."""
    layers = range(cell.layers)
    of = {
        name: [getattr(cell.fused, f"{name}_l{layer}") for layer in layers]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    gates = of["weight_hh"][0].shape[0]
    others = [each.t() for each in of["weight_ih"][1:]]
    bias, recurrent_bias = torch.stack(of["bias_ih"]), torch.stack(of["bias_hh"])
    if cell.kind != "gru":
        bias = bias + recurrent_bias
    return Layers(
        first=array_of(of["weight_ih"][0].t()),
        others=array_of(torch.stack(others)) if others else np.zeros((0, cell.hidden_size, gates), np.float32),
        recurrent=array_of(torch.stack([each.t() for each in of["weight_hh"]])),
        bias=array_of(bias),
        recurrent_bias=array_of(recurrent_bias),
    )


def sizes_of_cell(cell: RecurrentLayers, layout: StateLayout) -> Sizes:
    """Return the sizes of a model that has recurrent layers, and nothing else that sizes tell of."""
    nothing: dict[str, Any] = {name: 0 for name in Sizes._fields if not name.startswith("at_")}
    own = {"hidden": cell.hidden_size, "layers": cell.layers, "cell": CELLS[cell.kind], "inputs": cell.fused.input_size}
    return Sizes(**{**nothing, **_starts(layout), "finds": False, "adapts": False, "tells_days": False, **own})


def array_of(tensor: Tensor) -> Any:
    """Return a tensor as an array in C order."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
