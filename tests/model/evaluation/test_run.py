"""Evaluation of a model and the baselines on a panel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.models import tiny_model
from support.panels import panel_of, waves

from statecast.model import ConfigError, Forecaster, save_model
from statecast.model.data import Series
from statecast.model.errors import DataError
from statecast.model.evaluation import SEASONAL_NAIVE, EvaluationError
from statecast.model.evaluation.run import Request, evaluate_model, find_model


@pytest.fixture(scope="module")
def model() -> Forecaster:
    return tiny_model()


def test_the_model_comes_first_and_seasonal_naive_is_always_there(model: Forecaster) -> None:
    done = evaluate_model(model, panel_of(*waves(300)), Request())
    assert [each.name for each in done.forecasts] == ["tiny 1", SEASONAL_NAIVE, "last value"]
    assert [row.scores.name for row in done.report.rows] == [each.name for each in done.forecasts]
    protocol = done.report.protocol
    assert (protocol.horizon, protocol.season, protocol.windows, protocol.stride) == (6, 4, 10, 6)
    assert done.left_out == 0


@pytest.mark.parametrize(("frequency", "season"), [("h", 24), ("30min", 48), ("D", 7), ("MS", 12), ("", 4), ("YS", 4)])
def test_the_season_is_that_of_the_data(model: Forecaster, frequency: str, season: int) -> None:
    protocol = evaluate_model(model, panel_of(*waves(200), frequency=frequency), Request(windows=2)).report.protocol
    assert protocol.season == season


def test_a_request_wins_over_the_model(model: Forecaster) -> None:
    asked = Request(horizon=3, windows=2, step=7, first_cutoff=100, seasons=(12,))
    protocol = evaluate_model(model, panel_of(*waves(300)), asked).report.protocol
    assert (protocol.horizon, protocol.windows, protocol.step) == (3, 2, 7)
    assert (protocol.first_cutoff, protocol.season) == (100, 12)


def test_a_first_cutoff_by_time_lies_where_each_series_has_it(model: Forecaster) -> None:
    panel = panel_of(*waves(300), frequency="h")
    start = panel.series[0].start_ns
    assert start is not None
    series = [replace(each, start_ns=start + 50 * at * 3_600_000_000_000) for at, each in enumerate(panel.series)]
    begins = str(np.datetime64(start + 200 * 3_600_000_000_000, "ns").astype("datetime64[s]"))
    done = evaluate_model(model, replace(panel, series=tuple(series)), Request(windows=2, begins=begins))
    assert [truth.cutoffs.tolist() for truth in done.outcomes.truths] == [[200, 206], [150, 156], [100, 106]]
    assert done.report.to_dict()["protocol"]["first_cutoff"] == begins
    with pytest.raises(EvaluationError, match="no series has a row before 1999-01-01 and the 12 rows after it"):
        evaluate_model(model, panel, Request(windows=2, begins="1999-01-01"))
    with pytest.raises(DataError, match="only position counts"):
        evaluate_model(model, panel_of(*waves(300)), Request(windows=2, begins=begins))


def test_a_first_cutoff_by_share(model: Forecaster) -> None:
    done = evaluate_model(model, panel_of(waves(300)[0], waves(100)[0]), Request(windows=2, begins=0.8))
    assert [truth.cutoffs.tolist() for truth in done.outcomes.truths] == [[240, 246], [80, 86]]
    with pytest.raises(EvaluationError, match="no series has a row before 99%"):
        evaluate_model(model, panel_of(waves(300)[0]), Request(windows=2, begins=0.99))


def test_naive_forecasts_of_several_seasons(model: Forecaster) -> None:
    panel = panel_of(*waves(300))
    done = evaluate_model(model, panel, Request(windows=2, seasons=(12, 24, 12)))
    assert [each.name for each in done.forecasts] == [
        "tiny 1", SEASONAL_NAIVE, "last value", "seasonal naive 24", "seasonal naive 12",
    ]  # fmt: skip
    alone = evaluate_model(model, panel, Request(windows=2, seasons=(24,)))
    np.testing.assert_array_equal(done.forecasts[3].quantiles, alone.forecasts[1].quantiles)
    assert done.report.protocol.season == 12


def test_rows_hold_each_forecast_beside_its_outcome(model: Forecaster) -> None:
    panel = panel_of(*waves(300), frequency="h")
    done = evaluate_model(model, panel, Request(windows=3, step=2))
    rows = done.rows
    assert len(rows.forecaster) == 3 * 3 * 3 * 6  # forecasters, series, windows, steps
    assert rows.time is not None
    assert rows.seen_until is not None
    hour = 3_600_000_000_000
    for at in (0, 20, 53, 54, 107, 161):
        forecast = done.forecasts[at // 54]
        series, window, step = at % 54 // 18, at % 18 // 6, at % 6
        cutoff = int(done.outcomes.truths[series].cutoffs[window])
        assert (rows.forecaster[at], rows.series[at], rows.cutoff[at]) == (forecast.name, f"s{series}", cutoff)
        assert rows.step[at] == step + 1
        assert (
            rows.time[at] == panel.series[series].times("h")[cutoff + step] == rows.seen_until[at] + hour * (step + 1)
        )
        assert rows.outcomes[at, 0] == panel.series[series].values[cutoff + step, 0]
        places = [forecast.levels.index(level) for level in rows.levels]
        np.testing.assert_array_equal(rows.quantiles[at, 0], forecast.quantiles[series][window, step, places])


def test_series_that_cannot_be_evaluated_are_left_out(model: Forecaster) -> None:
    values = [*waves(300), np.arange(20.0), np.append(np.full(299, np.nan), 1.0)]
    done = evaluate_model(model, panel_of(*values), Request())
    assert done.left_out == 2
    assert [truth.unique_id for truth in done.outcomes.truths] == ["s0", "s1", "s2"]
    with pytest.raises(EvaluationError, match="no series has the 61 rows that 10 windows need"):
        evaluate_model(model, panel_of(np.arange(20.0)), Request())
    with pytest.raises(EvaluationError, match="no series has values"):
        evaluate_model(model, panel_of(values[-1]), Request())


def test_auto_ets_is_there_if_asked_for(model: Forecaster) -> None:
    pytest.importorskip("statsforecast")
    done = evaluate_model(model, panel_of(waves(80)[0]), Request(windows=2, auto_ets=True))
    assert done.forecasts[-1].name == "AutoETS"


def test_a_model_of_another_frequency_is_refused(model: Forecaster) -> None:
    with pytest.raises(EvaluationError, match="frequency"):
        evaluate_model(tiny_model("hourly"), panel_of(*waves(300)), Request())
    # Times do not matter to a model that uses only positions.
    evaluate_model(model, panel_of(*waves(300), frequency="D"), Request(windows=1))


def test_categories_are_found_by_name(model: Forecaster) -> None:
    panel = panel_of(*waves(100))
    series = tuple(Series(each.unique_id, None, each.values, ("x",)) for each in panel.series)
    evaluate_model(model, replace(panel, series=series, categories=("region",)), Request(windows=1))


def test_a_model_is_found_by_name_version_and_folder(tmp_path: Path) -> None:
    for version in ("2", "10", "9"):
        save_model(tiny_model("tiny", version), tmp_path / "tiny" / version)
    assert find_model("tiny", tmp_path).config.version == "10"
    assert find_model("tiny:2", tmp_path).config.version == "2"
    assert find_model(str(tmp_path / "tiny" / "9"), Path("/nowhere")).config.version == "9"
    assert find_model("base", tmp_path).config.name == "base"
    for absent in ("nope", "tiny:3", ""):
        with pytest.raises(ConfigError, match="model: there is no"):
            find_model(absent, tmp_path)
