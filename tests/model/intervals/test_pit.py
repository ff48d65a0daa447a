"""The share of a forecast's distribution below a value."""

from statistics import NormalDist

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from statecast.model.intervals.pit import share_below

LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def share(quantiles: list[float], values: list[float], levels: tuple[float, ...]) -> Tensor:
    rows = torch.tensor(quantiles, dtype=torch.float64).expand(len(values), -1)
    return share_below(rows, torch.tensor(values, dtype=torch.float64), torch.tensor(levels, dtype=torch.float64))


def test_a_quantile_lies_at_its_level() -> None:
    assert (
        share([1, 2, 4], [1, 2, 3, 4], (0.1, 0.5, 0.9)).tolist()
        == torch.tensor([0.1, 0.5, 0.7, 0.9], dtype=torch.float64).tolist()
    )


def test_it_is_uniform_where_the_quantiles_are_right() -> None:
    normal = NormalDist(50, 7)
    drawn = np.random.default_rng(0).normal(50, 7, 20_000)
    shares = share([normal.inv_cdf(level) for level in LEVELS], drawn.tolist(), LEVELS).sort().values
    even = (torch.arange(20_000) + 0.5) / 20_000
    assert float((shares - even).abs().max()) < 0.025
    # At the known levels the distribution is exact.
    for level in LEVELS:
        assert abs(float((shares <= level).double().mean()) - level) < 0.01


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3).map(sorted),
    st.lists(st.floats(-1e8, 1e8), min_size=2, max_size=20).map(sorted),
)
def test_it_rises_with_the_value_from_0_to_1(quantiles: list[float], values: list[float]) -> None:
    shares = share(quantiles, values, (0.1, 0.5, 0.9))
    assert bool((shares.diff() >= -1e-12).all())
    assert float(shares.min()) >= 0
    assert float(shares.max()) <= 1


def test_the_tails_fall_on_as_they_did() -> None:
    shares = share([1, 2, 3], [-30, 0, 1, 3, 4, 5, 40], (0.1, 0.5, 0.9))
    assert bool((shares.diff() > 0).all())
    assert abs(float(shares[1]) - 0.1 / 5) < 1e-12
    assert abs(float(shares[4]) - (1 - 0.1 / 5)) < 1e-12


def test_a_value_with_a_probability_of_its_own_lies_in_its_middle() -> None:
    assert share([0, 0, 0, 1, 2], [0], (0.1, 0.3, 0.5, 0.7, 0.9)).tolist() == [0.25]
    assert share([0, 1, 1, 1, 2], [1], (0.1, 0.3, 0.5, 0.7, 0.9)).tolist() == [0.5]
    assert share([5, 5, 5, 5, 5], [5], (0.1, 0.3, 0.5, 0.7, 0.9)).tolist() == [0.5]
    low, high = share([5, 5, 5, 5, 5], [4.9, 5.1], (0.1, 0.3, 0.5, 0.7, 0.9)).tolist()
    assert low < 0.01
    assert high > 0.99


def test_what_is_not_known_has_no_place() -> None:
    assert bool(share([1, 2, 3], [torch.nan], (0.1, 0.5, 0.9)).isnan().all())
    assert bool(share([torch.nan] * 3, [1.0], (0.1, 0.5, 0.9)).isnan().all())
