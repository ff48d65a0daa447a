"""The inputs of the learned parts for one session, as in `inputs.features` and `inputs.known_inputs`."""

import math

import numpy as np

from ..frequency import YEAR_NS
from ..inputs.features import FARTHEST_ZERO, LARGEST_COUNT, LARGEST_RATIO, LEAST_LOG_ERROR
from ..inputs.known_inputs import DAY_HARMONICS, SATURDAY, YEAR_HARMONICS
from ..zones import DAY_NS
from .arguments import DAY, WEEK, WEEKEND
from .compiling import part
from .functions import asinh32, log32
from .statistics import error_ratio, units_of, weekday_of

_F = np.float32
_LEAST_LOG_ERROR = _F(LEAST_LOG_ERROR)


@part
def compressed(ratio):
    """Return the arcsinh of a ratio, float32."""
    return asinh32(_F(min(max(ratio, -LARGEST_RATIO), LARGEST_RATIO)))


@part
def log_count(count):
    """Return the logarithm of a count, scaled for the learned parts."""
    return _F(math.log1p(min(count, LARGEST_COUNT))) / _F(5.0)


@part
def write_step(before, after, sizes, weights, decays, values, into):
    """Write the features of an observation.

    Args:
        before, after: The session's row before and after it, float64.
        weights, decays: Those of errors, see `Tables`.
        values: The observation, [D].
        into: Gets the features, float32 [D * step_inputs].
    """
    for target in range(sizes.targets):
        value, last = values[target], before[sizes.at_last + target]
        _, scale = units_of(after, sizes, weights, decays, target)
        at, first = target * sizes.step_inputs, target * sizes.forecasters
        is_seen = not np.isnan(value)
        into[at] = _F(is_seen)
        into[at + 1] = compressed((value - last) / scale) if is_seen and not np.isnan(last) else _F(0.0)
        for judge in range(sizes.judges):
            error = log32(error_ratio(after, sizes, weights, decays, first + judge, 0, scale))
            into[at + 2 + judge] = max(error, _LEAST_LOG_ERROR)


@part
def write_standing(row, whole, sizes, weights, decays, target, centre, scale, into, errors):
    """Write the features of a session's current state for the head.

    Args:
        row, whole: The session, as float64 and int64.
        weights, decays: Those of errors, see `Tables`.
        centre, scale: Its units.
        into: Gets the features, float32 [F E + 2], and those of the periods that it found, [K].
        errors: Gets the mean logarithm of each forecaster's error, float32 [F].
    """
    memories, forecasters = sizes.memories, sizes.forecasters
    for forecaster in range(forecasters):
        total = _F(0.0)
        for memory in range(memories):
            place = target * forecasters + forecaster
            error = log32(error_ratio(row, sizes, weights, decays, place, memory, scale))
            into[forecaster * memories + memory] = max(error, _LEAST_LOG_ERROR)
            total += error
        errors[forecaster] = total / _F(memories)
    rest = forecasters * memories
    into[rest] = compressed(min(max(-centre / scale, -FARTHEST_ZERO), FARTHEST_ZERO))
    into[rest + 1] = log_count(row[sizes.at_count + target])
    if sizes.finds:
        for slot in range(sizes.slots):
            into[rest + 2 + slot] = log_count(float(whole[sizes.at_periods + target * sizes.slots + slot]))


@part
def write_known(sizes, tables, time, covariates, into):
    """Write the known inputs of a time step.

    Args:
        time: Its time; any number without a calendar.
        covariates: Its covariates, NaN where not known, [C].
        into: Gets the inputs, float32 [known].
    """
    at = 0
    for cycle in tables.cycles:
        if cycle == WEEKEND:
            weekday = weekday_of(time)
            into[at], into[at + 1] = _F(weekday >= SATURDAY), _F((weekday - 1) % 7 >= SATURDAY)
            at += 2
        elif cycle == WEEK:
            into[at : at + 7] = _F(0.0)
            into[at + weekday_of(time)] = _F(1.0)
            at += 7
        else:
            harmonics = DAY_HARMONICS if cycle == DAY else YEAR_HARMONICS
            period = DAY_NS if cycle == DAY else YEAR_NS
            phase = (time % period) * (2 * math.pi / period)
            for harmonic in range(harmonics):
                into[at + harmonic] = _F(math.sin(phase * (harmonic + 1)))
                into[at + harmonics + harmonic] = _F(math.cos(phase * (harmonic + 1)))
            at += 2 * harmonics
    for covariate in range(sizes.covariates):
        value = covariates[covariate]
        is_known = not np.isnan(value)
        scaled = _F(math.asinh((value - tables.centres[covariate]) / tables.scales[covariate])) if is_known else _F(0.0)
        into[at + covariate], into[at + sizes.covariates + covariate] = scaled, _F(is_known)


@part
def write_static(tables, weights, categories, into):
    """Write the embeddings of a session's categories; into: float32 [static]."""
    at = 0
    for category in range(tables.embedded.shape[0]):
        start, length = tables.embedded[category]
        begin = start + categories[category] * length
        into[at : at + length] = weights.embeddings[begin : begin + length]
        at += length
