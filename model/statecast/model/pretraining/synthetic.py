"""Synthetic series of many kinds, for training and validating a general model."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]
Rng = np.random.Generator

USUAL_PERIODS = (4, 5, 7, 10, 12, 15, 20, 24, 30, 48, 52, 60, 96, 144, 168, 288, 336, 365)
# Steps per day, for series with a daily and a weekly pattern.
STEPS_A_DAY = (4, 6, 8, 12, 24, 24, 24, 48, 48, 96, 144, 288)
LONGEST_USUAL = 400


@dataclass(frozen=True)
class Made:
    """A synthetic series.

    Attributes:
        values: The values, NaN where missing, [T].
        period: The main period in steps, 1 if there is none.
        spread: The standard deviation before glitches are added.
    """

    values: Series
    period: int
    spread: float = 0.0


def make_series(rng: Rng, steps: int) -> Made:
    """Make one series of random kind, scale, offset and gaps."""
    made = _kind(rng)(rng, steps)
    values = made.values
    if rng.random() < 0.12:
        values = _change_of_regime(rng, values, _kind(rng)(rng, steps).values)
    if rng.random() < 0.15:
        values = values + _level_shifts(rng, steps) * _spread(values)
    if rng.random() < 0.12:
        values = _spiked(rng, values)
    spread = _spread(values)
    if rng.random() < 0.08:
        values = _with_glitches(rng, values)
    if rng.random() < 0.08:
        values = _rounded(rng, values)
    if rng.random() < 0.08:
        values = np.clip(values, *np.quantile(values, (rng.uniform(0, 0.3), rng.uniform(0.7, 1))))
    unit = 10.0 ** rng.uniform(-3, 5)
    values = values * unit
    if rng.random() < 0.25:
        values = _with_gaps(rng, values)
    return Made(values, made.period, spread * unit)


def _kind(rng: Rng) -> Callable[[Rng, int], Made]:
    kinds = (_seasonal, _working_week, _walk, _coloured, _counts, _bursts, _flat, _autoregressive)
    shares = (0.32, 0.25, 0.1, 0.09, 0.08, 0.06, 0.04, 0.06)
    return kinds[rng.choice(len(kinds), p=shares)]


def _seasonal(rng: Rng, steps: int) -> Made:
    """Make a series of one to three seasons, a trend and noise, added or multiplied."""
    period = _period(rng)
    shape = _season(rng, steps, period)
    for _ in range(rng.choice(3, p=(0.6, 0.3, 0.1))):
        shape = shape + rng.uniform(0.1, 0.8) * _season(rng, steps, _period(rng))
    if rng.random() < 0.4:
        shape = shape * np.exp(_smooth_walk(rng, steps, rng.uniform(0.1, 0.7)))
    return Made(_combined(rng, shape, _trend(rng, steps), _noise(rng, steps)), period)


def _working_week(rng: Rng, steps: int) -> Made:
    """Make a series with a daily pattern that depends on the day of the week."""
    day = int(rng.choice(STEPS_A_DAY))
    shapes = [_template(rng, day) for _ in range(2)]
    factors = 1 + rng.normal(0, rng.uniform(0, 0.3), 7)
    offsets = rng.normal(0, rng.uniform(0, 0.3), 7)
    factors[5:] *= rng.uniform(0.2, 1.2)
    offsets[5:] += rng.normal(0, 0.7)
    blend = rng.choice((0.0, 1.0))
    week = np.concatenate(
        [offsets[d] + factors[d] * (shapes[0] if d < 5 or blend == 0 else shapes[1]) for d in range(7)]
    )
    shape = np.resize(np.roll(week, rng.integers(7 * day)), steps)
    shape = shape * np.exp(_smooth_walk(rng, steps, rng.uniform(0, 0.3)))
    if rng.random() < 0.5:
        shape = shape + _days_alike(rng, steps, day)
    if rng.random() < 0.3:
        shape = _with_holidays(rng, shape, day)
    values = _combined(rng, shape, _trend(rng, steps), _noise(rng, steps))
    return Made(values, 7 * day if 7 * day <= LONGEST_USUAL else day)


def _days_alike(rng: Rng, steps: int, day: int) -> Series:
    """Make a deviation from the usual days that lasts some days: of the level, and of each day's shape."""
    level = _standard(_filtered(rng.normal(size=steps), float(np.exp(-1 / (day * rng.uniform(0.3, 3))))))
    days = _filtered(rng.normal(size=steps // day + 2), float(np.exp(-1 / rng.uniform(0.3, 3))))
    through = np.interp(np.arange(steps), np.arange(len(days)) * day, days)
    shape = np.resize(_template(rng, day), steps) * through
    return rng.uniform(0, 0.5) * level + rng.uniform(0, 0.3) * shape


def _walk(rng: Rng, steps: int) -> Made:
    """Make a random walk, possibly with drift, pulled back to a mean, or geometric."""
    jumps = _innovations(rng, steps)
    if rng.random() < 0.5:
        return Made(np.cumsum(jumps + rng.normal(0, 0.1)), 1)
    pull = 10.0 ** rng.uniform(-3, -0.7)
    values = _filtered(jumps, 1 - pull)
    if rng.random() < 0.3:
        values = np.exp(np.clip(values * 0.1, -5, 5))
    return Made(values + rng.normal(0, 5), 1)


def _coloured(rng: Rng, steps: int) -> Made:
    """Make noise whose power falls with frequency, from white noise to smoother than a random walk."""
    spectrum = np.fft.rfft(_innovations(rng, 2 * steps))
    frequency = np.maximum(np.fft.rfftfreq(2 * steps), 1 / (2 * steps))
    values = np.fft.irfft(spectrum * frequency ** -rng.uniform(0, 1.4))[:steps]
    return Made(_standard(values) + rng.normal(0, 3), 1)


def _autoregressive(rng: Rng, steps: int) -> Made:
    """Make a noisy oscillation, whose phase and amplitude wander."""
    period, damping = 10.0 ** rng.uniform(0.5, 2.3), 1 - 10.0 ** rng.uniform(-3.5, -1)
    turn = damping * np.exp(2j * np.pi / period)
    jumps = _innovations(rng, steps)
    values, state = np.empty(steps), 0j
    for step in range(steps):
        state = turn * state + jumps[step]
        values[step] = state.real
    return Made(_standard(values) + rng.normal(0, 3), max(1, round(period)))


def _counts(rng: Rng, steps: int) -> Made:
    """Make counts, often zero, whose rate may have a season."""
    period = _period(rng)
    rate = np.exp(rng.uniform(-2.5, 3) + rng.choice((0.0, 1.0)) * _season(rng, steps, period))
    if rng.random() < 0.5:
        shape = rng.uniform(0.5, 5)
        rate = rate * rng.gamma(shape, 1 / shape, steps)
    values = rng.poisson(np.minimum(rate, 1e6)).astype(np.float64)
    if rng.random() < 0.3:
        values = values * (rng.random(steps) < rng.uniform(0.05, 0.6))
    return Made(values, period)


def _bursts(rng: Rng, steps: int) -> Made:
    """Make a quiet level with bursts of uneven height, at random or regular steps, as in telemetry."""
    period = int(rng.integers(2, 60))
    if rng.random() < 0.5:
        begins = np.arange(steps) % period == rng.integers(period)
        begins = begins & (rng.random(steps) < rng.uniform(0.6, 1))
    else:
        begins, period = rng.random(steps) < 1 / period, 1
    heights = begins * np.exp(rng.normal(0, rng.uniform(0.1, 1.5), steps))
    level = rng.choice((0.0, 1.0)) * rng.uniform(0, 3)
    return Made(level + _filtered(heights, float(rng.choice((0.0, 0.5, 0.8)))), period)


def _flat(rng: Rng, steps: int) -> Made:
    """Make a constant series, or one of several constant levels."""
    if rng.random() < 0.5:
        return Made(np.full(steps, rng.normal(0, 5)), 1)
    return Made(np.round(_level_shifts(rng, steps) * 3) + rng.normal(0, 3), 1)


def _period(rng: Rng) -> int:
    if rng.random() < 0.5:
        return int(rng.choice(USUAL_PERIODS))
    return int(10.0 ** rng.uniform(0.5, np.log10(LONGEST_USUAL)))


def _season(rng: Rng, steps: int, period: int) -> Series:
    return np.resize(np.roll(_template(rng, period), rng.integers(period)), steps)


def _template(rng: Rng, period: int) -> Series:
    """Make one period of a random shape, with mean 0 and standard deviation 1."""
    phase = np.arange(period) / period
    kind = rng.integers(5)
    if kind == 0:
        shape = np.sin(2 * np.pi * phase)
    elif kind == 1:
        orders = np.arange(1, rng.integers(2, 9))
        weights = rng.normal(size=len(orders)) / orders ** rng.uniform(0.3, 1.5)
        angles = np.outer(phase, orders) * 2 * np.pi + rng.uniform(0, 2 * np.pi, len(orders))
        shape = np.sin(angles) @ weights
    elif kind == 2:
        peaks = rng.random(rng.integers(1, 4))
        gaps = np.abs((phase[:, None] - peaks + 0.5) % 1 - 0.5)
        shape = np.exp(-((gaps / rng.uniform(0.02, 0.25)) ** 2)) @ rng.uniform(0.3, 1, len(peaks))
    elif kind == 3:
        shape = (phase < rng.uniform(0.1, 0.9)).astype(np.float64) if rng.random() < 0.7 else phase
    else:
        shape = rng.normal(size=period)
    return _standard(shape)


def _trend(rng: Rng, steps: int) -> Series:
    time = np.arange(steps) / steps
    kind = rng.integers(5)
    if kind == 0:
        return rng.normal(0, 4) * time
    if kind == 1:
        knots = np.sort(rng.random(rng.integers(1, 6)))
        return np.maximum(time[:, None] - knots, 0) @ rng.normal(0, 8, len(knots))
    if kind == 2:
        return _smooth_walk(rng, steps, rng.uniform(0.2, 3))
    if kind == 3:
        return np.cumsum(rng.normal(0, 10.0 ** rng.uniform(-3, -1), steps))
    return np.zeros(steps)


def _noise(rng: Rng, steps: int) -> Series:
    """Make noise, from almost none to as strong as the season, sometimes autocorrelated."""
    noise = _innovations(rng, steps)
    if rng.random() < 0.6:
        noise = _standard(_filtered(noise, rng.uniform(0.3, 0.99)))
        noise = noise + rng.uniform(0, 0.5) * rng.normal(size=steps)
    return noise * float(10.0 ** rng.uniform(-2, 0.1))


def _innovations(rng: Rng, steps: int) -> Series:
    """Make independent noise: normal, heavy-tailed, skewed, or of changing strength."""
    kind = rng.integers(5)
    if kind == 0:
        return np.clip(rng.standard_t(rng.uniform(2, 6), steps), -50, 50)
    if kind == 1:
        return rng.normal(size=steps) * np.exp(_smooth_walk(rng, steps, rng.uniform(0.2, 1.2)))
    if kind == 2:
        shape = rng.uniform(0.5, 4)
        return (rng.gamma(shape, 1, steps) - shape) / sqrt(shape)
    return rng.normal(size=steps)


def _combined(rng: Rng, shape: Series, trend: Series, noise: Series) -> Series:
    if rng.random() < 0.35:
        strength = rng.uniform(0.1, 0.6)
        return np.exp(np.clip(strength * (shape + trend + noise), -8, 8))
    if rng.random() < 0.3:
        noise = noise * (0.2 + np.abs(shape - shape.min()))
    return float(rng.choice((0.0, 3.0, 30.0))) * rng.random() + shape + trend + noise


def _smooth_walk(rng: Rng, steps: int, strength: float) -> Series:
    """Make a slow, smooth walk around 0."""
    knots = rng.integers(3, max(4, steps // 60))
    heights = rng.normal(0, strength, knots)
    return np.interp(np.linspace(0, knots - 1, steps), np.arange(knots), heights)


def _level_shifts(rng: Rng, steps: int) -> Series:
    jumps = np.where(rng.random(steps) < rng.uniform(0.5, 8) / steps, rng.normal(0, 2, steps), 0)
    return np.cumsum(jumps)


def _change_of_regime(rng: Rng, before: Series, after: Series) -> Series:
    cut = int(rng.uniform(0.2, 0.8) * len(before))
    after = _standard(after) * _spread(before) * 2.0 ** rng.normal() + before[:cut].mean()
    return np.concatenate([before[:cut], after[cut:]])


def _spiked(rng: Rng, values: Series) -> Series:
    hits = rng.random(len(values)) < 10.0 ** rng.uniform(-3, -1.3)
    heights = rng.exponential(rng.uniform(1, 10), len(values)) * float(rng.choice((-1, 1, 1)))
    return values + np.where(hits, heights, 0.0) * _spread(values)


def _with_glitches(rng: Rng, values: Series) -> Series:
    """Add a few extreme values, alone or in short runs, as from broken sensors and wrong units."""
    values = values.copy()
    for start in rng.integers(0, len(values), rng.integers(1, 4)):
        height = _spread(values) * float(10.0 ** rng.uniform(1, 5)) * float(rng.choice((-1, 1)))
        values[start : start + int(rng.choice((1, 1, 1, 2, 5)))] += height
    return values


def _with_holidays(rng: Rng, shape: Series, day: int) -> Series:
    """Replace some days by other days."""
    days = shape[: len(shape) // day * day].reshape(-1, day).copy()
    for position in np.flatnonzero(rng.random(len(days)) < 0.03):
        days[position] = days[rng.integers(len(days))]
    return np.concatenate([days.ravel(), shape[days.size :]])


def _rounded(rng: Rng, values: Series) -> Series:
    unit = _spread(values) * float(10.0 ** rng.uniform(-1.5, 0))
    return np.round(values / unit) * unit


def _with_gaps(rng: Rng, values: Series) -> Series:
    values = values.copy()
    if rng.random() < 0.5:
        values[rng.random(len(values)) < rng.uniform(0.01, 0.5)] = np.nan
    for start in rng.integers(0, len(values), rng.integers(0, 4)):
        values[start : start + rng.integers(1, 100)] = np.nan
    return values


def _filtered(noise: Series, memory: float) -> Series:
    """Return y[t] = memory y[t - 1] + noise[t], by repeated doubling: y += memory ** k * shift(y, k)."""
    values, shift, factor = noise.copy(), 1, memory
    while shift < len(values) and factor > 1e-12:
        values[shift:] = values[shift:] + factor * values[:-shift]
        shift, factor = 2 * shift, factor * factor
    return values


def _spread(values: Series) -> float:
    return float(values.std()) + 1e-9


def _standard(values: Series) -> Series:
    return (values - float(values.mean())) / _spread(values)
