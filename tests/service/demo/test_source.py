from pathlib import Path

import numpy as np
import pytest

from statecast.service.demo.source import CSV_LIVE_ROWS, SourceError, csv, telemetry


def write(folder: Path, *lines: str) -> Path:
    path = folder / "series.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_csv_file_becomes_history_and_samples(tmp_path: Path) -> None:
    rows = [f"2024-01-{1 + at // 24:02d} {at % 24:02d}:00,{at}" for at in range(600)]
    source = csv(write(tmp_path, "when,load", *rows), "when", "load")
    live = [sample["load"] for sample in source.samples]
    assert len(live) == source.expected == 300
    assert [*source.history["load"], *live] == list(range(600))


def test_a_long_file_is_mostly_history(tmp_path: Path) -> None:
    source = csv(write(tmp_path, "t,v", *(f"{at},1" for at in range(2000))), "t", "v")
    assert source.expected == CSV_LIVE_ROWS


def test_what_is_missing_is_nan(tmp_path: Path) -> None:
    source = csv(write(tmp_path, "t,v", "1,1", "2,", "3,NaN", "4,null", "5,2"), "t", "v")
    values = [*source.history["v"], *(sample["v"] for sample in source.samples)]
    np.testing.assert_array_equal(values, [1, np.nan, np.nan, np.nan, 2])


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["t,v", "2024-01-01,1", "2024-01-02,n/a?"], "line 3: v is 'n/a\\?', which is not a number"),
        (["t,v", "2024-01-01,1", "2024-01-02,inf"], "line 3: v is 'inf', which is not a number"),
        (["t,v", "2024-01-02,1", "2024-01-01,2"], "line 3: t goes back from 2024-01-02 to 2024-01-01"),
        (["t,v", "5,1", "4,2"], "line 3: t goes back from 5 to 4"),
        (["t,v", "soon,1", "later,2"], "line 2: t is 'soon', which is not a time"),
        (["t,w", "1,1"], "has no column 'v'; it has: t, w"),
        (["t,v", "1,1"], "has 1 rows"),
        (["t,v", "1,1", "2,1e300"], "line 3: v is '1e300', which is not a number of at most 1e\\+30"),
        (["t,v", "1,", "2,nan"], "has no value in column 'v'"),
        ([""], "cannot be read as CSV"),
    ],
)
def test_a_file_that_cannot_be_streamed_is_said_where(tmp_path: Path, lines: list[str], problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        csv(write(tmp_path, *lines), "t", "v")


def test_days_may_stand_before_months(tmp_path: Path) -> None:
    source = csv(write(tmp_path, "t,v", "11.01.2024,1", "12.01.2024,2", "13.01.2024,3", "01.02.2024,4"), "t", "v")
    assert [*source.history["v"], *(sample["v"] for sample in source.samples)] == [1, 2, 3, 4]


def test_a_name_is_made_fit_for_a_session(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text('t,"a\tb ' + "x" * 300 + '"\n1,1\n2,2\n')
    (name,) = csv(path, "t", "a\tb " + "x" * 300).units
    assert name == ("ab " + "x" * 300)[:60]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="/no/such"):
        csv(Path("/no/such"), "t", "v")


def test_this_machine_has_four_series() -> None:
    source = telemetry(0.35)
    samples = list(source.samples)
    assert len(samples) >= 2
    assert all(set(sample) == set(source.units) and len(sample) == 4 for sample in samples)
    assert all(np.isfinite(list(sample.values())).all() for sample in samples)
