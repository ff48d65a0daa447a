"""The scores of seasonal naive on ETT_1H equal those that fev-bench publishes."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from statecast.model.evaluation import SCORED_LEVELS, Outcomes, Protocol, Truth, score, seasonal_naive

DATA = Path(os.environ.get("STATECAST_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
FILES = ("ett/ETTh1.csv", "ett/ETTh2.csv")
# benchmarks/fev_bench/results/seasonal_naive.csv of github.com/autogluon/fev, row ETT_1H, fev 0.6.0
PUBLISHED = {"sql": 1.2068899431, "mase": 1.3227159047, "wape": 0.2864224620, "wql": 0.2597090183}


def test_seasonal_naive_on_ett() -> None:
    protocol, truths = Protocol(horizon=168, season=24, windows=20, first_cutoff=-3360), []
    for name in FILES:
        if not (DATA / name).exists():
            pytest.skip(f"{name} is not here")
        frame = pd.read_csv(DATA / name).drop(columns="date")
        for target in frame.columns:
            values = frame[target].to_numpy(np.float64, copy=True)
            truths.append(Truth(name, target, values, protocol.cutoffs(len(values))))
    scores = score(Outcomes.of(truths, protocol), seasonal_naive(truths, protocol, SCORED_LEVELS))
    assert len(truths) == 14
    # fev reads the data as float32.
    assert {error: getattr(scores, error) for error in PUBLISHED} == pytest.approx(PUBLISHED, rel=1e-7)
