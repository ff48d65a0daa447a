"""Baselines that a forecaster should beat: seasonal naive, last value and AutoETS."""

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
CONTEXT_STEPS = 1000  # as in fev-bench, for its statistical baselines

Quantiles = NDArray[np.float64]


def seasonal_naive(
    truths: Sequence[Truth], protocol: Protocol, levels: Sequence[float], context_steps: int = CONTEXT_STEPS
) -> Forecasts:
    """Forecast each step by the value one season before.

    Quantiles are those of a normal distribution around it, as in statsforecast's SeasonalNaive. Its deviation is the
    root mean square of the last seasonal differences, times the square root of the number of seasons ahead. If the
    value one season before is missing, an earlier season replaces it and counts as further ahead. If a step has no
    value in any season, the last observed value replaces it, or 0 without one.

    Args:
        truths: The series.
        protocol: The cut-offs, the horizon and the season.
        levels: Quantile levels, ascending.
        context_steps: How many of the last steps provide the differences; all steps if these have none.

    Returns:
        Forecasts at every cut-off.
    """
    return _naive(SEASONAL_NAIVE, protocol.season, truths, protocol, levels, context_steps)


def last_value(
    truths: Sequence[Truth], protocol: Protocol, levels: Sequence[float], context_steps: int = CONTEXT_STEPS
) -> Forecasts:
    """Forecast each step by the last value: seasonal naive with a season of one step, a random walk.

    Args:
        truths: The series.
        protocol: The cut-offs and the horizon; its season is ignored.
        levels: Quantile levels, ascending.
        context_steps: How many of the last steps provide the differences.

    Returns:
        Forecasts at every cut-off.
    """
    return _naive(LAST_VALUE, 1, truths, protocol, levels, context_steps)


def has_auto_ets() -> bool:
    """Return whether statsforecast, of the extra `bench`, is installed."""
    return find_spec("statsforecast") is not None


def auto_ets(
    truths: Sequence[Truth],
    protocol: Protocol,
    levels: Sequence[float],
    windows: Iterable[int] | None = None,
    context_steps: int = CONTEXT_STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> Forecasts:
    """Fit statsforecast's AutoETS at each cut-off and forecast; each fit takes about a second.

    As in fev-bench, missing values are replaced by the value before them, and seasonal naive replaces a failed fit.

    Args:
        truths: The series.
        protocol: The cut-offs, the horizon and the season.
        levels: Quantile levels, ascending.
        windows: The cut-offs to forecast at, by number from 0; None for all.
        context_steps: How many of the last steps AutoETS sees.
        progress: Called after each fit with the number of fits done and the total.

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
    """Return quantiles [H, Q], or None if the fit fails."""
    # Slow to import, and only installed with the extra `bench`.
    from statsforecast.models import AutoETS

    # Central intervals in percent; rounded, so that 0.1 and 0.9 request the same interval.
    percents = [round(abs(2 * level - 1) * 100, 6) for level in levels]
    model = AutoETS(season_length=protocol.season)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            said: dict[str, Any] = model.forecast(y=past, h=protocol.horizon, level=sorted(set(percents)))  # type: ignore[arg-type]
    except Exception:
        # Short and constant series raise all kinds of errors, even IndexError.
        return None
    sides = ["lo" if level < 0.5 else "hi" for level in levels]
    columns = [said[f"{side}-{percent}"] for side, percent in zip(sides, percents, strict=True)]
    quantiles = np.sort(np.stack(columns, axis=-1), axis=-1)
    return quantiles if np.isfinite(quantiles).all() else None


def _naive(
    name: str, season: int, truths: Sequence[Truth], protocol: Protocol, levels: Sequence[float], context_steps: int
) -> Forecasts:
    # Makes the median exactly equal to the value.
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
    """Return the last value observed at each step's place in the season, and its age in seasons, both [H]."""
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
    """Return the root mean square of seasonal differences, or of differences of one step if there are none, or 0."""
    # A context of one season would hold no difference.
    for lag, seen in ((season, past[-max(context_steps, 3 * season) :]), (season, past), (1, past)):
        differences = seen[lag:] - seen[:-lag]
        differences = differences[~np.isnan(differences)]
        if len(differences):
            return float(np.sqrt(np.mean(differences**2)))
    return 0.0


def _carried_forward(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace missing values by the last value before them, or by 0 without one."""
    seen = ~np.isnan(values)
    latest = np.maximum.accumulate(np.where(seen, np.arange(len(values)), -1))
    return np.where(latest >= 0, values[latest], 0.0)
