"""Contents of the report, and of its file."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from statecast.model.evaluation import (
    SEASONAL_NAIVE,
    EvaluationError,
    Forecasts,
    Outcomes,
    Protocol,
    Report,
    Truth,
    baseline_levels,
    last_value,
    seasonal_naive,
    step_table,
    summary_table,
)
from statecast.model.evaluation.tables import some_steps

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
PROTOCOL = Protocol(horizon=12, season=7, windows=4, step=5)


def truths() -> list[Truth]:
    rng = np.random.default_rng(4)
    values = 30 + 8 * np.sin(np.arange(100) / 7 * 2 * np.pi) + rng.normal(size=(3, 100))
    values[1, 90:95] = np.nan
    values[2] = 4
    return [Truth(f"shop {index}", "sales", each, PROTOCOL.cutoffs(100)) for index, each in enumerate(values)]


def forecasts(windows: tuple[int, ...] = (0, 1, 2, 3)) -> list[Forecasts]:
    """Return forecasts, where the model lies half-way between outcomes and seasonal naive, which halves its error."""
    levels = baseline_levels(LEVELS)
    naive, last = seasonal_naive(truths(), PROTOCOL, levels), last_value(truths(), PROTOCOL, levels)
    kept = [levels.index(level) for level in LEVELS]
    values = np.nan_to_num(Outcomes.of(truths(), PROTOCOL).values)[..., None]
    halves = tuple((said[..., kept] + each) / 2 for said, each in zip(naive.quantiles, values, strict=True))
    return [Forecasts("model [x]", LEVELS, halves, naive.windows).at(windows), naive, last]


def report(windows: tuple[int, ...] = (0, 1, 2, 3)) -> Report:
    return Report.of(Outcomes.of(truths(), PROTOCOL), forecasts(windows))


def text(table: Table) -> str:
    console = Console(width=200, file=StringIO())
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_every_forecaster_stands_beside_seasonal_naive() -> None:
    rows = report().rows
    assert [row.scores.name for row in rows] == ["model [x]", SEASONAL_NAIVE, "last value"]
    assert rows[0].relative("mase") == pytest.approx(0.5)
    assert rows[1].relative() == 1
    assert rows[2].relative() > 1


def test_a_forecaster_at_some_windows_is_compared_at_those() -> None:
    row = report(windows=(1, 3)).rows[0]
    assert row.scores.windows == row.reference.windows == (1, 3)
    assert row.relative("mase") == pytest.approx(0.5)


def test_the_table_says_what_was_measured() -> None:
    shown = text(summary_table(report()))
    lines = shown.splitlines()
    assert [heading.strip() for heading in lines[2].split("┃")][1:-1] == [
        "forecaster", "SQL", "vs seasonal naive", "MASE", "WQL", "WAPE", "sum-MAPE", "sMAPE", "80% band", "2nd half",
    ]  # fmt: skip
    assert "model [x]" in lines[4]
    assert " 1.000 " in next(line for line in lines if SEASONAL_NAIVE in line and "│" in line)
    # Windows end at 85, 90, 95, 100 and span 12 steps. The hole from 90 to 94 is in the last two of one series.
    assert "3 series, 4 windows of 12 steps, 5 apart, season 7; 134 outcomes, 10 missing" in shown
    assert "leave out 4 windows whose past does not move, 1 series altogether" in shown
    assert "levels" not in shown


def test_the_table_says_at_how_many_windows_and_levels() -> None:
    assert "model [x] at 2 of 4 windows" in text(summary_table(report(windows=(1, 3))))
    narrow = [Forecasts(each.name, (0.5,), each.quantiles, each.windows) for each in only_medians()]
    shown = text(summary_table(Report.of(Outcomes.of(truths(), PROTOCOL), narrow)))
    assert "levels 0.5 only" in shown
    assert "band" not in shown


def only_medians() -> list[Forecasts]:
    return [
        Forecasts(each.name, (0.5,), tuple(q[..., [each.levels.index(0.5)]] for q in each.quantiles), each.windows)
        for each in forecasts()
    ]


def test_the_best_is_bold_also_where_that_is_seasonal_naive() -> None:
    _, naive, last = forecasts()
    table = summary_table(Report.of(Outcomes.of(truths(), PROTOCOL), [last, naive]))
    errors = [str(cell) for cell in table.columns[1].cells]
    assert "bold" not in errors[0]
    assert "bold" in errors[1]


def test_the_table_by_step() -> None:
    assert some_steps(168) == [1, 2, 5, 10, 20, 50, 100, 168]
    assert some_steps(1) == [1]
    shown = text(step_table(report()))
    assert [heading.strip() for heading in shown.splitlines()[2].split("┃")][3:-1] == ["1", "2", "5", "10", "12"]
    assert shown.count("80% band") == shown.count("SQL") == 3


def test_json_has_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    report().write(path)
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
    said = json.loads(path.read_text())
    assert said == report().to_dict()
    assert said["protocol"] == {
        "horizon": 12, "season": 7, "windows": 4, "step": 5, "first_cutoff": None,
        "levels": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    }  # fmt: skip
    assert said["counts"] == {
        "series": 3, "points": 134, "missing_points": 10, "unscaled_windows": 4, "unscaled_series": 1,
    }  # fmt: skip
    model = said["forecasters"][0]
    assert model["relative_to_seasonal_naive"]["mase"] == pytest.approx(0.5)
    assert len(model["sql_by_step"]) == len(model["coverage"][0]["by_step"]) == 12
    assert [each["unique_id"] for each in model["series"]] == ["shop 0", "shop 1", "shop 2"]
    assert model["series"][2]["sql"] is None
    assert [each["level"] for each in model["observed_share"]] == list(LEVELS)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OSError, match=r"report\.json"):
        report().write(tmp_path / "report.json")
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


def test_what_cannot_be_compared_is_refused() -> None:
    true = Outcomes.of(truths(), PROTOCOL)
    model, naive, _ = forecasts()
    with pytest.raises(EvaluationError, match="seasonal naive has to be among"):
        Report.of(true, [model])
    with pytest.raises(EvaluationError, match="one name"):
        Report.of(true, [model, model, naive])
    with pytest.raises(EvaluationError, match=r"seasonal naive is scored at \[0.5\]"):
        Report.of(true, [model, only_medians()[1]])
    with pytest.raises(EvaluationError, match=r"no forecast at windows \[0, 2\]"):
        Report.of(true, [model, naive.at([1, 3])])
