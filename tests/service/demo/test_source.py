from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from support.panels import panel_of

from statecast.model.data import Layout, Panel, read_panel
from statecast.service.demo.source import LIVE_ROWS, MOST_SERIES, Source, SourceError, recorded, telemetry


def read(folder: Path, *lines: str, **layout: object) -> Panel:
    path = folder / "series.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_panel(path, Layout(**{"time": "t", "targets": ("v",), **layout}))  # type: ignore[arg-type]


def streamed(source: Source) -> dict[str, list[float]]:
    samples = list(source.samples)
    assert len(samples) == source.expected
    return {name: [*source.history[name], *(sample[name] for sample in samples)] for name in source.units}


def test_a_file_becomes_history_and_samples(tmp_path: Path) -> None:
    rows = [f"2024-01-{1 + at // 24:02d} {at % 24:02d}:00,{at}" for at in range(600)]
    source = recorded("series.csv", read(tmp_path, "t,v", *rows))
    assert source.expected == 300
    assert streamed(source) == {"v": list(range(600))}


def test_a_long_file_is_mostly_history() -> None:
    assert recorded("f", panel_of(np.ones(2000))).expected == LIVE_ROWS


def test_it_is_read_as_training_reads_it(tmp_path: Path) -> None:
    lines = ("t;v", "1704067200;1", "1704070800;", "1704078000;1.234,5")
    source = recorded("series.csv", read(tmp_path, *lines, delimiter=";", decimal=",", thousands="."))
    np.testing.assert_array_equal(streamed(source)["v"], [1, np.nan, np.nan, 1234.5])


def test_several_series_end_side_by_side() -> None:
    source = recorded("f", panel_of(*(np.arange(rows) + 100.0 * rows for rows in (10, 6, 8, 9, 7))))
    assert list(source.units) == ["s0", "s1", "s2", "s3"]
    assert len(source.units) == MOST_SERIES
    assert source.expected == 3
    assert streamed(source)["s1"] == [600, 601, 602, 603, 604, 605]


def test_sessions_have_names_of_their_own(tmp_path: Path) -> None:
    long = "x" * 300
    path = tmp_path / "series.csv"
    path.write_text(f't,"a\tb {long}1","a\tb {long}2"\n2024-01-01,1,3\n2024-01-02,2,4\n')
    panel = read_panel(path, Layout(time="t", targets=(f"a\tb {long}1", f"a\tb {long}2")))
    name = f"ab {long}"[:60]
    assert streamed(recorded("f", panel)) == {name: [1, 2], f"{name} (2)": [3, 4]}


def test_names_that_differ_in_what_is_not_shown_are_numbered() -> None:
    panel = replace(panel_of(np.ones((6, 4))), targets=("a\u200bb", "ab", "ab (2)", "ab"))
    assert list(recorded("f", panel).units) == ["ab", "ab (2)", "ab (2) (2)", "ab (3)"]


def test_series_of_one_row_are_passed_over() -> None:
    source = recorded("f", panel_of(np.ones(1), *(np.ones(rows) for rows in (5, 6, 7)), np.ones(1), np.ones(9)))
    assert list(source.units) == ["s1", "s2", "s3", "s5"]
    with pytest.raises(SourceError, match=r"my\.csv: no series has two rows, which the demo needs"):
        recorded("my.csv", panel_of(np.ones(1), np.ones(1)))


def test_this_machine_has_four_series() -> None:
    source = telemetry(0.35)
    samples = list(islice(source.samples, source.expected))
    assert len(samples) >= 2
    assert all(set(sample) == set(source.units) and len(sample) == 4 for sample in samples)
    assert all(np.isfinite(list(sample.values())).all() for sample in samples)
