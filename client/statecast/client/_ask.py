"""Arguments of calls: observations and options."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .types import Version


class Array(Protocol):
    """Anything that numpy converts to an array: its own arrays, those of pandas, and more."""

    def __array__(self) -> NDArray[Any]:
        """Return the array."""


Numbers: TypeAlias = float | Array | Sequence[float | Array | Sequence[float | None] | None]
"""A number, [time], or [time, columns]; NaN or None where missing."""
Time: TypeAlias = datetime | np.datetime64
Times: TypeAlias = Array | Sequence[Time]


@dataclass(frozen=True, eq=False)
class Observations:
    """Observations of one session, for `observe_many`, `step_many` and `stream`, if values alone are not enough.

    Attributes:
        values: A number, [time], or [time, targets]; NaN or None where missing.
        covariates: Past values of the model's covariates: [time, covariates], or [time] if it has only one; NaN where
            unknown.
        future_covariates: Covariates in the steps to forecast: [horizon, covariates], or [horizon] if it has only one.
        start_time: Time of the first value, for a model with a frequency.
        times: Time of each value, instead of `start_time`; not needed if a Series or DataFrame has times in its index.
    """

    values: Numbers
    _: KW_ONLY
    covariates: Numbers | None = None
    future_covariates: Numbers | None = None
    start_time: Time | None = None
    times: Times | None = None


Values: TypeAlias = Numbers | Observations


def observations(
    values: Numbers,
    covariates: Numbers | None = None,
    future_covariates: Numbers | None = None,
    start_time: Time | None = None,
    times: Times | None = None,
) -> Observations:
    """Return Observations; their constructor, that of a frozen dataclass, takes three times as long."""
    made = object.__new__(Observations)
    made.__dict__.update(
        values=values,
        covariates=covariates,
        future_covariates=future_covariates,
        start_time=start_time,
        times=times,
    )
    return made


class Ask(NamedTuple):
    """Options of a call; the attributes are the arguments of the same names."""

    horizon: int = 0
    quantile_levels: Sequence[float] = ()
    explain: bool = False
    request_id: str | None = None
    if_version: Version | None = None


PLAIN = Ask()
