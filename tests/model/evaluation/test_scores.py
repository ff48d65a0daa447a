"""Scores compared with results by hand, of fev-bench and of utilsforecast."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from utilsforecast import losses

from statecast.model.evaluation import (
    SCORED_LEVELS,
    EvaluationError,
    Forecasts,
    Outcomes,
    Protocol,
    Truth,
    baseline_levels,
    score,
    scored_levels,
)

NAN = float("nan")
LEVELS = (0.1, 0.5, 0.9)
BY_HAND = Protocol(horizon=2, season=1, windows=2)
STORY = [0.0, 2.0, 4.0, 10.0, 5.0, 3.0]  # past [0, 2], scale 2; then past [0, 2, 4, 10], scale (2 + 2 + 6) / 3


def outcomes(*series: list[float], protocol: Protocol = BY_HAND, targets: str = "aaaa") -> Outcomes:
    arrays = [np.array(each) for each in series]
    truths = [
        Truth(f"s{index}", target, values, protocol.cutoffs(len(values)))
        for index, (values, target) in enumerate(zip(arrays, targets, strict=False))
    ]
    return Outcomes.of(truths, protocol)


def constant(levels: tuple[float, ...], *series: list[float], windows: tuple[int, ...] = (0, 1)) -> Forecasts:
    """Return forecasts with the same quantiles at every window and step of a series."""
    return Forecasts("model", levels, tuple(np.tile(np.array(each), (len(windows), 2, 1)) for each in series), windows)


def test_worked_out_by_hand() -> None:
    """The outcomes are 4, 10 and 5, 3; the median is 4, the band 3 to 6."""
    scores = score(outcomes(STORY), constant(LEVELS, [3, 4, 6]))
    assert scores.levels == SCORED_LEVELS
    assert scores.mae == pytest.approx((0 + 6 + 1 + 1) / 4)
    assert scores.mase == pytest.approx((3 / 2 + 1 / (10 / 3)) / 2)
    assert scores.wape == pytest.approx((6 / 14 + 2 / 8) / 2)
    assert scores.sum_mape == pytest.approx((0 + 6 + 1 + 1) / (4 + 10 + 5 + 3))
    assert scores.smape == pytest.approx((0 + 12 / 14 + 2 / 9 + 2 / 7) / 4)
    assert scores.mae_by_step == pytest.approx([0.5, 3.5])
    band = scores.coverage[0]
    assert (band.stated, band.overall, band.first_half, band.second_half) == (0.8, 0.75, 0.5, 1)
    assert band.by_step.tolist() == [1, 0.5]
    assert scores.observed_share == {0.1: 0.25, 0.5: 0.5, 0.9: 0.75}
    assert scores.series[0].points == 4
    assert scores.series[0].mase == pytest.approx(scores.mase)


def test_quantile_losses_by_hand() -> None:
    """With only a median the quantile loss equals the absolute error."""
    scores = score(outcomes(STORY), constant((0.5,), [4]))
    assert scores.levels == (0.5,)
    assert (scores.sql, scores.wql) == pytest.approx((scores.mase, scores.wape))
    assert scores.coverage == ()
    # 0.3 and 0.7 are interpolated: quantiles 3, 3.5, 4, 5, 6 at 0.1 to 0.9 for an outcome of 5, past [0, 2].
    one = Protocol(horizon=1, season=1)
    quantiles = np.array([[[3.0, 4.0, 6.0]]])
    scores = score(outcomes([0.0, 2.0, 5.0], protocol=one), Forecasts("model", LEVELS, (quantiles,), (0,)))
    below = [0.1 * 2, 0.2 * 1.75, 0.3 * 1.5, 0.4 * 1.25, 0.5 * 1, 0.6 * 0.5, 0, 0.2 * 0.5, 0.1 * 1]
    assert scores.sql == pytest.approx(2 * sum(below) / 9 / 2)
    assert scores.wql == pytest.approx(2 * sum(below) / 9 / 5)


def test_a_perfect_forecast_scores_nothing_and_covers_all() -> None:
    values = np.random.default_rng(1).normal(size=60)
    protocol = Protocol(horizon=4, season=3, windows=5)
    true = outcomes(list(values), protocol=protocol)
    perfect = Forecasts("oracle", LEVELS, (np.repeat(true.values[0][..., None], 3, axis=2),), tuple(range(5)))
    scores = score(true, perfect)
    assert (scores.sql, scores.mase, scores.wql, scores.wape, scores.mae) == (0, 0, 0, 0, 0)
    assert scores.coverage[0].overall == 1


def test_missing_outcomes_do_not_count() -> None:
    """fev averages over the points of a window, so a series with one outcome has half the weight."""
    one = Protocol(horizon=2, season=1)
    true = outcomes([0.0, 1.0, 3.0, NAN], [0.0, 1.0, 1.0, 1.0], protocol=one)
    scores = score(true, constant((0.5,), [1], [1], windows=(0,)))
    assert scores.mae == scores.mase == pytest.approx(2 / 3)
    assert scores.wape == pytest.approx(2 / 5)
    assert scores.mae_by_step.tolist() == [1, 0]
    assert [each.points for each in scores.series] == [1, 2]
    assert [each.mae for each in scores.series] == [2, 0]


def test_coverage_and_reliability_leave_missing_outcomes_out() -> None:
    one = Protocol(horizon=2, season=1)
    scores = score(outcomes([0.0, 1.0, 3.0, NAN], protocol=one), constant(LEVELS, [0, 1, 4], windows=(0,)))
    assert scores.coverage[0].overall == 1
    assert np.isnan(scores.coverage[0].by_step[1])
    assert np.isnan(scores.coverage[0].second_half)
    assert scores.observed_share == {0.1: 0, 0.5: 0, 0.9: 1}


def test_a_window_without_any_outcome_does_not_count() -> None:
    scores = score(outcomes([0.0, 1.0, NAN, NAN, 3.0, 2.0]), constant((0.5,), [1]))
    assert scores.mae == pytest.approx(1.5)


def test_means_over_targets_are_taken_before_those_over_windows() -> None:
    """Targets a, with two series, and b, with one series, have equal weight."""
    one = Protocol(horizon=2, season=1)
    series = [[0.0, 1.0, 2.0, 2.0], [0.0, 1.0, 4.0, 4.0], [0.0, 1.0, 10.0, 10.0]]
    scores = score(outcomes(*series, protocol=one, targets="aab"), constant((0.5,), [0], [0], [0], windows=(0,)))
    assert scores.mae == pytest.approx(((2 + 4) / 2 + 10) / 2)
    assert scores.wape == pytest.approx(1)


@pytest.mark.parametrize("flat", [[5.0, 5.0, 5.0, 9.0], [5.0, NAN, 5.0, 9.0], [NAN, NAN, 5.0, 9.0]])
def test_a_past_that_does_not_move_is_left_out_of_scaled_scores(flat: list[float]) -> None:
    one = Protocol(horizon=2, season=1)
    moving = [0.0, 1.0, 2.0, 3.0]
    forecasts = constant((0.5,), [1], [0], windows=(0,))
    both = score(outcomes(moving, flat, protocol=one), forecasts)
    alone = score(outcomes(moving, protocol=one), constant((0.5,), [1], windows=(0,)))
    assert (both.sql, both.mase) == (alone.sql, alone.mase)
    assert both.mae > alone.mae
    assert np.isnan(both.series[1].sql)


def test_nothing_but_zeros_has_no_relative_error() -> None:
    scores = score(outcomes([1.0, 0.0, 0.0, 0.0], protocol=Protocol(2, 1)), constant((0.5,), [1], windows=(0,)))
    assert np.isnan(scores.wape)
    assert scores.mae == 1


def test_the_scale_is_of_the_past_alone() -> None:
    before = outcomes(STORY).scales
    after = outcomes([*STORY[:4], 1e9, -1e9]).scales
    assert before.tolist() == after.tolist() == [[2, 10 / 3]]


@settings(max_examples=50)
@given(st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_scaled_scores_do_not_change_with_the_unit(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((2, 40)) < 0.1, NAN, rng.normal(size=(2, 40)))
    quantiles = np.sort(rng.normal(size=(2, 3, 4, 3)), axis=-1)
    protocol = Protocol(horizon=4, season=5, windows=3)

    def scores(by: float) -> list[float]:
        forecasts = Forecasts("model", LEVELS, tuple(quantiles * by), (0, 1, 2))
        each = score(outcomes(*(values * by).tolist(), protocol=protocol), forecasts)
        return [each.sql, each.mase, each.wql, each.wape, each.coverage[0].overall, each.mae / by]

    assert scores(1) == pytest.approx(scores(factor), rel=1e-9)


def as_frames(true: Outcomes, quantiles: NDArray[np.float64]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return forecasts and pasts in the format of utilsforecast, from quantiles [S, W, H, Q]."""
    rows, pasts = [], []
    for index, truth in enumerate(true.truths):
        name = {"unique_id": truth.unique_id}
        pasts += [name | {"ds": step, "y": value} for step, value in enumerate(truth.values)]
        for window, cutoff in enumerate(truth.cutoffs):
            for step in range(true.protocol.horizon):
                said = {str(level): quantiles[index, window, step, at] for at, level in enumerate(SCORED_LEVELS)}
                when = {"cutoff": cutoff - 1, "ds": cutoff + step, "y": truth.values[cutoff + step]}
                rows.append(name | when | said)
    return pd.DataFrame(rows), pd.DataFrame(pasts)


def test_agrees_with_utilsforecast_where_nothing_is_missing() -> None:
    rng = np.random.default_rng(5)
    protocol = Protocol(horizon=6, season=4, windows=3)
    true = outcomes(*rng.normal(size=(3, 50)).cumsum(axis=1).tolist(), protocol=protocol)
    quantiles = np.sort(rng.normal(scale=3, size=(3, 3, 6, 9)), axis=-1)
    scores = score(true, Forecasts("model", SCORED_LEVELS, tuple(quantiles), (0, 1, 2)))
    frame, past = as_frames(true, quantiles)
    models = {"model": [str(level) for level in SCORED_LEVELS]}
    sql = losses.scaled_mqloss(frame, models, np.array(SCORED_LEVELS), seasonality=4, train_df=past)
    assert scores.sql == pytest.approx(2 * sql["model"].mean())
    assert scores.mase == pytest.approx(losses.mase(frame, ["0.5"], seasonality=4, train_df=past)["0.5"].mean())
    assert scores.mae == pytest.approx(losses.mae(frame, ["0.5"])["0.5"].mean())
    assert scores.smape == pytest.approx(2 * losses.smape(frame, ["0.5"])["0.5"].mean())
    banded = frame.rename(columns={"0.1": "model-lo-80", "0.9": "model-hi-80"})
    covered = losses.coverage(banded, ["model"], 80)["model"].mean()
    assert scores.coverage[-1].overall == pytest.approx(covered)


def test_agrees_with_fev_where_some_are_missing_and_one_is_flat() -> None:
    rng = np.random.default_rng(3)
    protocol = Protocol(horizon=6, season=5, windows=3, step=4)
    values = rng.normal(size=(2, 4, 90)).cumsum(axis=-1)
    values[rng.random(values.shape) < 0.15] = NAN
    values[1, 2, :70] = 2
    quantiles = np.sort(rng.normal(scale=3, size=(8, 3, 6, 9)), axis=-1)
    true = outcomes(*values.reshape(8, 90).tolist(), protocol=protocol, targets="aaaabbbb")
    scores = score(true, Forecasts("model", SCORED_LEVELS, tuple(quantiles), (0, 1, 2)))
    # Results of fev 0.10.0 on the same data.
    fev = [7.094413440899298, 8.51747281975995, 0.849103871409392, 1.0144740445994602, 6.222547175467175]
    assert [scores.sql, scores.mase, scores.wql, scores.wape, scores.mae] == pytest.approx(fev)


def test_measures_of_mape_where_values_are_0_or_missing() -> None:
    scores = score(outcomes([0.0, 2.0, 0.0, NAN, 0.0, 0.0]), constant((0.5,), [0]))
    assert scores.smape == 0.0
    assert np.isnan([scores.wape, scores.sum_mape]).all()
    two = outcomes([0.0, 2.0, 4.0, NAN, 4.0, 4.0], [0.0, 2.0, 10.0, 10.0, 10.0, 10.0], targets="ab")
    # Each target by itself, then the mean: 2 / 4 and 8 / 10 off.
    assert score(two, constant((0.5,), [2], [2])).sum_mape == pytest.approx((0.5 + 0.8) / 2)


def test_levels_that_are_scored() -> None:
    assert scored_levels([0.01, 0.5, 0.99]) == SCORED_LEVELS
    assert scored_levels([0.25, 0.5, 0.75]) == (0.3, 0.4, 0.5, 0.6, 0.7)
    assert baseline_levels([0.25, 0.5, 0.75]) == (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75)
    assert baseline_levels([0.1, 0.2, 0.1 + 0.2, 0.9])[2] == 0.1 + 0.2
    with pytest.raises(EvaluationError, match="no median"):
        scored_levels([0.1, 0.4])


def test_bands_are_those_that_are_symmetric() -> None:
    levels = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
    scores = score(outcomes(STORY), constant(levels, [0, 1, 2, 3, 4, 5]))
    assert [band.stated for band in scores.coverage] == [0.5, 0.8]


def test_what_does_not_fit_is_refused() -> None:
    true = outcomes(STORY)
    with pytest.raises(EvaluationError, match="no series"):
        Outcomes.of([], BY_HAND)
    with pytest.raises(EvaluationError, match="s0 a: 2 cut-offs for 1 windows"):
        Outcomes.of(true.truths, Protocol(horizon=2, season=1))
    with pytest.raises(EvaluationError, match="ends before its last window does"):
        Outcomes.of(true.truths, Protocol(horizon=3, season=1, windows=2))
    with pytest.raises(EvaluationError, match="2 series for 1"):
        score(true, constant((0.5,), [1], [1]))
    with pytest.raises(EvaluationError, match="only 2 windows"):
        score(true, constant((0.5,), [1], windows=(0, 2)))
    with pytest.raises(EvaluationError, match="1 steps ahead for a horizon of 2"):
        score(true, Forecasts("model", (0.5,), (np.ones((1, 1, 1)),), (0,)))
