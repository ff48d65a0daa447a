"""What a call says: what was observed, and what is asked beside it."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .types import Version


class Array(Protocol):
    """What numpy takes for an array: its own, those of pandas, and more."""

    def __array__(self) -> NDArray[Any]:
        """The array."""


Numbers: TypeAlias = float | Array | Sequence[float | Array | Sequence[float | None] | None]
"""A number, [time], or [time, columns]; NaN or None where missing."""
Time: TypeAlias = datetime | np.datetime64
Times: TypeAlias = Array | Sequence[Time]


@dataclass(frozen=True, eq=False)
class Observations:
    """What one session is told, where calls about many take more than values.

    Attributes:
        values: A number, [time], or [time, targets]; NaN or None where missing.
        covariates: What the model's covariates were, [time, covariates], or [time] if it has one; NaN where not known.
        future_covariates: What they will be in the steps to forecast, [horizon, covariates], or [horizon].
        start_time: The time of the first value, for a model with a frequency.
        times: The time of each value, instead of `start_time`; those in the index of a Series or DataFrame need not be
            given.
    """

    values: Numbers
    _: KW_ONLY
    covariates: Numbers | None = None
    future_covariates: Numbers | None = None
    start_time: Time | None = None
    times: Times | None = None


Values: TypeAlias = Numbers | Observations


@dataclass(frozen=True)
class Ask:
    """What a call asks beside appending; the attributes are the arguments of that name."""

    horizon: int = 0
    quantile_levels: Sequence[float] = ()
    explain: bool = False
    request_id: str | None = None
    if_version: Version | None = None
