"""Lanes read every series in order, without gaps or overlaps, and start a fresh session for each."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from support.panels import START_NS, panel_of

from statecast.model import ModelConfig
from statecast.model.config import Category
from statecast.model.data import Panel, Series
from statecast.model.training.lanes import LEAST_LANES, MOST_LANES, Chunk, Lanes, scale_of

HORIZON, STRETCH = 3, 20
HOUR_NS = 3_600_000_000_000


def config(**changes: object) -> ModelConfig:
    return ModelConfig(name="m", version="1", targets=("y",), horizon=HORIZON, **changes)  # type: ignore[arg-type]


def telling(*rows: int, frequency: str = "") -> Panel:
    """Return series whose values encode the series and the row."""
    return panel_of(*(1000 * (at + 1) + np.arange(each) for at, each in enumerate(rows)), frequency=frequency)


def read(panel: Panel, count: int, seed: int = 0, **changes: object) -> list[Chunk]:
    return list(islice(Lanes(panel, config(**changes), STRETCH, seed), count))


@pytest.mark.parametrize("rows", [[200], [7], [90, 50, 5, 1], [60] * 12, [30 + each for each in range(40)]])
def test_stretches_follow_each_other(rows: list[int]) -> None:
    chunks = read(telling(*rows), 60)
    lanes = len(chunks[0].fresh)
    assert lanes == min(max(len(rows), LEAST_LANES), MOST_LANES)
    assert bool(chunks[0].fresh.all())
    ends: list[tuple[int, int]] = [(0, 0)] * lanes
    for chunk in chunks:
        for lane in range(lanes):
            values, length = chunk.rows[lane, :, 0], int(chunk.lengths[lane])
            series, at = divmod(int(values[0]), 1000)
            left = rows[series - 1] - at
            assert length == min(STRETCH, left)
            known = min(STRETCH + HORIZON, left)
            assert torch.equal(values[:known], 1000 * series + at + torch.arange(known, dtype=torch.float64))
            assert bool(values[known:].isnan().all())
            before, end = ends[lane]
            # A single last row is skipped, because no row follows it.
            assert bool(chunk.fresh[lane]) == (before != series or at != end)
            assert bool(chunk.fresh[lane]) == (before == 0 or end >= rows[before - 1] - 1)
            ends[lane] = series, at + length


def test_every_pass_begins_every_series_once() -> None:
    panel = telling(*[50] * 40)
    begun = [
        int(chunk.rows[lane, 0, 0]) // 1000
        for chunk in read(panel, 60)
        for lane in range(MOST_LANES)
        if chunk.fresh[lane]
    ]
    passes = [begun[start : start + 40] for start in range(0, len(begun) - 40, 40)]
    assert len(passes) > 5
    assert all(set(each) == set(range(1, 41)) for each in passes)
    assert passes[0] != passes[1]


def test_few_series_are_read_from_many_beginnings() -> None:
    chunks = read(telling(400, 400), 100)
    begun = Counter(int(chunk.rows[lane, 0, 0]) for chunk in chunks for lane in range(LEAST_LANES) if chunk.fresh[lane])
    assert len(begun) > 20
    assert {each // 1000 for each in begun} == {1, 2}


def test_the_seed_makes_the_order() -> None:
    panel = telling(*[70] * 10)
    first, same, other = (read(panel, 20, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a.rows.nan_to_num(), b.rows.nan_to_num()) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a.rows.nan_to_num(), b.rows.nan_to_num()) for a, b in zip(first, other, strict=True))


def test_times_are_those_of_the_rows() -> None:
    for chunk in read(telling(90, 50, frequency="h"), 30, frequency="h", calendar=("day",)):
        assert chunk.times is not None
        known = ~chunk.rows[..., 0].isnan()
        rows = chunk.rows[..., 0][known].long() % 1000
        assert torch.equal(chunk.times[known], START_NS + rows * HOUR_NS)
    assert read(telling(90, frequency="h"), 1, frequency="h")[0].times is None


def test_categories_are_those_of_the_series() -> None:
    panel = telling(60, 60, 60)
    series = tuple(
        Series(each.unique_id, None, each.values, (region,))
        for each, region in zip(panel.series, ("n", "s", "elsewhere"), strict=True)
    )
    made = replace(panel, series=series, categories=("region",))
    for chunk in read(made, 10, categories=(Category("region", ("n", "s")),)):
        which = chunk.rows[:, 0, 0].long() // 1000 - 1
        assert torch.equal(chunk.categories[:, 0], torch.tensor([1, 2, 0])[which])


def test_the_scale_is_the_error_of_the_seasonal_naive_forecast() -> None:
    season = np.tile([0.0, 10.0, 20.0, 5.0], 50) + np.random.default_rng(0).normal(0, 3, 200)
    scale = scale_of(panel_of(season).series[0], config(lags=(4,)))
    assert scale == pytest.approx([np.abs(season[4:] - season[:-4]).mean()])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values", [[1.0], [3.0] * 30, [np.nan] * 30, [1.0] + [np.nan] * 29, [np.nan, 1.0, np.nan, 2.0] * 10]
)
def test_every_series_has_a_scale(values: list[float]) -> None:
    scale = scale_of(panel_of(np.array(values)).series[0], config(lags=(3, 12)))
    assert bool((scale > 0).all())
    assert bool(np.isfinite(scale).all())


def test_a_series_that_repeats_itself_does_not_count_for_everything() -> None:
    exact = panel_of(np.tile([0.0, 100.0], 100)).series[0]
    assert scale_of(exact, config(lags=(2,)))[0] == pytest.approx(5.0)
