"""What a forecaster has to beat: seasonal naive, last value and AutoETS, each from nothing but the past."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .windows import EvaluationError, Forecasts, Protocol, Truth

SEASONAL_NAIVE = "seasonal naive"
LAST_VALUE = "last value"
AUTO_ETS = "AutoETS"
CONTEXT_STEPS = 1000  # what fev-bench lets its statistical baselines see

Quantiles = NDArray[np.float64]


def seasonal_naive(
    truths: Sequence[Truth], protocol: Protocol, levels: Sequence[float], context_steps: int = CONTEXT_STEPS
) -> Forecasts:
    """Says that each step is as it was a season before.

    Quantiles are normal around it, with the root mean square of the last seasonal differences, times the square root
    of the number of seasons ahead, as statsforecast's SeasonalNaive has them. Where the last season is missing, the
    one before it is taken, which counts as one more season ahead; failing all of them the last value observed, and
    0 before the first.

    Args:
        truths: The series.
        protocol: When and how far ahead.
        levels: Quantile levels, ascending.
        context_steps: How many of the last steps the differences are taken from; all if there are none in them.

    Returns:
        Forecasts at every cut-off.
    """
    return _naive(SEASONAL_NAIVE, protocol.season, truths, protocol, levels, context_steps)


def last_value(
    truths: Sequence[Truth], protocol: Protocol, levels: Sequence[float], context_steps: int = CONTEXT_STEPS
) -> Forecasts:
    """Says that nothing changes: seasonal naive with a season of one step, which is a random walk.

    Args:
        truths: The series.
        protocol: When and how far ahead; its season does not matter.
        levels: Quantile levels, ascending.
        context_steps: How many of the last steps the differences are taken from.

    Returns:
        Forecasts at every cut-off.
    """
    return _naive(LAST_VALUE, 1, truths, protocol, levels, context_steps)


def has_auto_ets() -> bool:
    """Says whether the extra `bench` is installed."""
    return find_spec("statsforecast") is not None


def auto_ets(
    truths: Sequence[Truth],
    protocol: Protocol,
    levels: Sequence[float],
    windows: Iterable[int] | None = None,
    context_steps: int = CONTEXT_STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> Forecasts:
    """Fits statsforecast's AutoETS anew at each cut-off, about a second each.

    Missing values are carried forward, and where it cannot be fitted seasonal naive stands in for it, both as fev-bench
    does it.

    Args:
        truths: The series.
        protocol: When and how far ahead.
        levels: Quantile levels, ascending.
        windows: At which cut-offs, from 0; all of them if None.
        context_steps: How many of the last steps it sees.
        progress: Told after each fit how many are done and how many there are.

    Raises:
        EvaluationError: statsforecast is not installed, or there is no such window.
    """
    if not has_auto_ets():
        raise EvaluationError("AutoETS needs statsforecast, which the extra 'bench' brings (docs/installation.md)")
    stand_in = seasonal_naive(truths, protocol, levels, context_steps)
    chosen = stand_in if windows is None else stand_in.at(sorted(set(windows)))
    total, done = len(truths) * len(chosen.windows), 0
    quantiles = [each.copy() for each in chosen.quantiles]
    for truth, forecasts in zip(truths, quantiles, strict=True):
        for row, window in enumerate(chosen.windows):
            past = _carried_forward(truth.past(window))[-max(context_steps, 1) :]
            if (fitted := _fit_ets(past, protocol, levels)) is not None:
                forecasts[row] = fitted
            done += 1
            if progress is not None:
                progress(done, total)
    return Forecasts(AUTO_ETS, tuple(levels), tuple(quantiles), chosen.windows)


def _fit_ets(past: NDArray[np.float64], protocol: Protocol, levels: Sequence[float]) -> Quantiles | None:
    """Quantiles [H, Q], or None if it cannot be fitted."""
    # Of the extra `bench`, and slow to import.
    from statsforecast.models import AutoETS

    # Central intervals in percent; rounded, so that 0.1 and 0.9 ask for one and the same.
    percents = [round(abs(2 * level - 1) * 100, 6) for level in levels]
    model = AutoETS(season_length=protocol.season)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            said: dict[str, Any] = model.forecast(y=past, h=protocol.horizon, level=sorted(set(percents)))  # type: ignore[arg-type]
    except Exception:
        # Short and constant series raise whatever the fit stumbled over, down to IndexError.
        return None
    sides = ["lo" if level < 0.5 else "hi" for level in levels]
    columns = [said[f"{side}-{percent}"] for side, percent in zip(sides, percents, strict=True)]
    quantiles = np.sort(np.stack(columns, axis=-1), axis=-1)
    return quantiles if np.isfinite(quantiles).all() else None


def _naive(
    name: str, season: int, truths: Sequence[Truth], protocol: Protocol, levels: Sequence[float], context_steps: int
) -> Forecasts:
    # The median is the value itself, to the last bit.
    normal = np.array([0.0 if level == 0.5 else NormalDist().inv_cdf(level) for level in levels])
    quantiles = []
    for truth in truths:
        windows = []
        for window in range(len(truth.cutoffs)):
            past = truth.past(window)
            centres, seasons = _look_back(past, season, protocol.horizon)
            spread = _spread(past, season, context_steps) * np.sqrt(seasons)
            windows.append(centres[:, None] + spread[:, None] * normal)
        quantiles.append(np.stack(windows))
    return Forecasts(name, tuple(levels), tuple(quantiles), tuple(range(protocol.windows)))


def _look_back(past: NDArray[np.float64], season: int, horizon: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The last value observed at each step's place in the season, and how many seasons before it, both [H]."""
    padded = np.concatenate([np.full(-len(past) % season, np.nan), past]).reshape(-1, season)
    seen = ~np.isnan(padded[::-1])
    back, known = seen.argmax(axis=0), seen.any(axis=0)
    observed = past[~np.isnan(past)]
    fallback = observed[-1] if len(observed) else 0.0
    latest = np.where(known, padded[len(padded) - 1 - back, np.arange(season)], fallback)
    ahead = np.arange(horizon)
    place = ahead % season
    return latest[place], ahead // season + 1 + np.where(known, back, 0)[place]


def _spread(past: NDArray[np.float64], season: int, context_steps: int) -> float:
    """Root mean square of the seasonal differences, of single steps if there are none of those, 0 if of neither."""
    # A context of one season would hold no difference at all.
    for lag, seen in ((season, past[-max(context_steps, 3 * season) :]), (season, past), (1, past)):
        differences = seen[lag:] - seen[:-lag]
        differences = differences[~np.isnan(differences)]
        if len(differences):
            return float(np.sqrt(np.mean(differences**2)))
    return 0.0


def _carried_forward(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fills in the last value observed, 0 before the first."""
    seen = ~np.isnan(values)
    latest = np.maximum.accumulate(np.where(seen, np.arange(len(values)), -1))
    return np.where(latest >= 0, values[latest], 0.0)
