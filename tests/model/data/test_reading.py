"""Files of every layout become panels, and errors name the fault in a file."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from statecast.model.data import Layout, Panel, read_panel
from statecast.model.errors import DataError, FrequencyError

LONG = """unique_id,ds,y,price,place
007,2024-01-01 00:00,1,10,north
007,2024-01-01 01:00,2,11,north
007,2024-01-01 02:00,3,,north
NA,2024-01-01 05:00, 4.5 ,12,south
NA,2024-01-01 06:00,NaN,13,south
NA,2024-01-01 07:00,-6e1,14,south
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str, name: str = "pump.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return written


def hours(*values: object, name: str = "y") -> str:
    return f"ds,{name}\n" + "".join(f"2024-01-01T{hour:02}:00,{value}\n" for hour, value in enumerate(values))


def listed(panel: Panel) -> dict[str, list[list[float]]]:
    return {series.unique_id: series.values.tolist() for series in panel.series}


def test_a_long_file_is_read(write: Write) -> None:
    panel = read_panel(write(LONG), Layout(covariates=("price",), categories=("place",)))
    first, second = panel.series
    assert (panel.frequency, panel.targets, panel.covariates, panel.categories) == ("h", ("y",), ("price",), ("place",))
    assert (first.unique_id, first.categories) == ("007", ("north",))
    assert (second.unique_id, second.categories) == ("NA", ("south",))
    assert second.start_ns == pd.Timestamp("2024-01-01 05:00").value
    np.testing.assert_array_equal(first.values, [[1, 10], [2, 11], [3, np.nan]])
    np.testing.assert_array_equal(second.values, [[4.5, 12], [np.nan, 13], [-60, 14]])
    assert panel.findings.count("missing", "y") == panel.findings.count("missing_covariate", "price") == 1
    assert panel.findings.lines() == (
        "column 'y', missing values: 1 (first series 'NA', 2024-01-01T06:00:00)",
        "column 'price', missing values of a covariate: 1 (first series '007', 2024-01-01T02:00:00)",
    )


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_true_and_false_are_1_and_0_and_categories_say_them_alike(tmp_path: Path, name: str) -> None:
    times = pd.date_range("2024-01-01", periods=3, freq="h")
    table = pd.DataFrame({"ds": times, "y": [True, None, False], "open": [False, True, True], "night": [True] * 3})
    path = tmp_path / name
    if name.endswith("csv"):
        table.to_csv(path, index=False)
    else:
        table.astype({"y": "boolean"}).to_parquet(path)
    panel = read_panel(path, Layout(covariates=("open",), categories=("night",)))
    np.testing.assert_array_equal(panel.series[0].values, [[1, 0], [np.nan, 1], [0, 1]])
    assert panel.series[0].categories == ("True",)


def test_words_for_truth_count_only_among_themselves(write: Write) -> None:
    (series,) = read_panel(write(hours(" true", "NA", "FALSE"))).series
    np.testing.assert_array_equal(series.values, [[1], [np.nan], [0]])
    with pytest.raises(DataError, match="row 2: 'true' is not a number"):
        read_panel(write(hours(1, "true", 0)))
    with pytest.raises(DataError, match="row 1: 'yes' is not a number"):
        read_panel(write(hours("yes", "no")))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.parquet", "a.pq", "A.CSV"])
def test_formats_read_alike(write: Write, tmp_path: Path, name: str) -> None:
    layout = Layout(covariates=("price",), categories=("place",))
    plain = read_panel(write(LONG), layout)
    path = tmp_path / name
    if name.lower().endswith(("csv", "gz")):
        write(LONG, name)
    else:
        frame = pd.read_csv(write(LONG), dtype={"unique_id": "category"}, keep_default_na=False, na_values=["", "NaN"])
        frame["ds"] = pd.to_datetime(frame["ds"]).dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
        frame.to_parquet(path)
    panel = read_panel(path, layout)
    for series, expected in zip(panel.series, plain.series, strict=True):
        assert (series.unique_id, series.start_ns) == (expected.unique_id, expected.start_ns)
        np.testing.assert_array_equal(series.values, expected.values)


@pytest.mark.parametrize("ids", [[1, 1, 2, 2], [1.0, 1.0, 2.0, 2.0]])
def test_ids_that_are_numbers_become_text(tmp_path: Path, ids: list[float]) -> None:
    days = pd.to_datetime(["2024-01-01", "2024-01-02"] * 2)
    pd.DataFrame({"unique_id": ids, "ds": days.date, "y": range(4)}).to_parquet(tmp_path / "a.parquet")
    panel = read_panel(tmp_path / "a.parquet")
    assert panel.frequency == "D"
    assert listed(panel) == {"1": [[0.0], [1.0]], "2": [[2.0], [3.0]]}


def test_columns_can_be_called_anything(write: Write) -> None:
    path = write("when,who,out,in,note\n2024-01-01,a,1,2,x\n2024-01-02,a,3,4,y\n")
    panel = read_panel(path, Layout(unique_id="who", time="when", targets=("out", "in"), categories=("who",)))
    assert listed(panel) == {"a": [[1.0, 2.0], [3.0, 4.0]]}
    assert panel.series[0].categories == ("a",)
    assert panel.findings.lines() == ("columns not used: 1 ('note')",)


def test_without_times_only_position_counts(write: Write) -> None:
    panel = read_panel(write("y\n3\n\n2\n", "sensor.csv"), Layout(time=None))
    assert panel.frequency == ""
    assert (panel.series[0].unique_id, panel.series[0].start_ns) == ("sensor", None)
    np.testing.assert_array_equal(panel.series[0].values[:, 0], [3, np.nan, 2])
    interleaved = write("unique_id,y\nb,1\na,2\nb,3\n")
    assert listed(read_panel(interleaved, Layout(time=None))) == {"b": [[1.0], [3.0]], "a": [[2.0]]}
    assert listed(read_panel(interleaved, Layout(time=None), max_rows=1)) == {"b": [[1.0]], "a": [[2.0]]}


def test_a_wide_file_is_a_series_for_each_column(write: Write) -> None:
    text = "ds,a,7,c\n2024-01-01,1,,\n2024-01-02,,5,\n2024-01-04,3,6,\n"
    panel = read_panel(write(text), Layout(wide=True, targets=("load",)))
    a, seven = panel.series
    assert (panel.targets, panel.frequency, a.unique_id, seven.unique_id) == (("load",), "D", "a", "7")
    np.testing.assert_array_equal(a.values[:, 0], [1, np.nan, np.nan, 3])
    np.testing.assert_array_equal(seven.values[:, 0], [5, np.nan, 6])
    assert seven.start_ns == pd.Timestamp("2024-01-02").value
    counts = {item.kind: item.count for item in panel.findings.items}
    assert counts == {"inserted": 1, "padding": 1, "missing": 1, "all_missing": 1}
    assert listed(read_panel(write("a,b\n1,2\n3,4\n"), Layout(wide=True, time=None))) == {
        "a": [[1], [3]],
        "b": [[2], [4]],
    }


def test_only_rows_up_to_the_cut_off_count(write: Write) -> None:
    text = LONG + "late,2024-01-03 00:30,1,1,east\n007,2024-01-02 00:10,9,9,west\n"
    panel = read_panel(write(text), Layout(categories=("place",)), until="2024-01-01 06:00")
    assert [series.rows for series in panel.series] == [3, 2]
    assert (panel.frequency, panel.findings.count("cut"), panel.findings.count("empty")) == ("h", 3, 1)
    gap = write(hours(1, 2, 3, 4).replace("2024-01-01T02", "2024-01-01T09"))
    panel = read_panel(gap, max_rows=4)
    np.testing.assert_array_equal(panel.series[0].values[:, 0], [1, 2, np.nan, 4])
    assert panel.findings.count("cut") == panel.findings.count("inserted") == 1
    assert read_panel(gap).until(rows=4).series[0].values.tolist()[3] == [4.0]
    off_grid = write(hours(1, 2, 3, 4).replace("T03:00", "T03:01"))
    assert read_panel(off_grid, max_rows=3).rows == 3


@pytest.mark.parametrize(
    ("written", "converted"),
    [
        ("2024-01-01T{:02}:00Z", 0),
        ("2024-01-01 {:02}:00:00.000+00:00", 0),
        ("2024-01-01T{:02}:00+01:00", 4),
        ("2024-01-01 {:02}-08", 4),
        ("20240101T{:02}", 0),
    ],
)
def test_times_with_a_zone_become_utc(write: Write, written: str, converted: int) -> None:
    texts = [written.format(hour) for hour in range(8, 12)]
    panel = read_panel(write("ds,y\n" + "".join(f"{text},{row}\n" for row, text in enumerate(texts))))
    assert panel.series[0].start_ns == pd.to_datetime(texts[0], utc=True).value
    assert (panel.frequency, panel.findings.count("converted")) == ("h", converted)


def test_times_can_be_written_in_any_way(write: Write) -> None:
    panel = read_panel(write("ds,y\n31.01.2024,1\n01.02.2024,2\n"), Layout(time_format="%d.%m.%Y"))
    assert panel.series[0].start_ns == pd.Timestamp("2024-01-31").value
    years = read_panel(write("ds,y\n1999,1\n2000,2\n2001,4\n"))
    assert years.frequency == "YS-JAN"


def test_years_go_further_than_64_bits_of_nanoseconds(write: Write) -> None:
    years = "".join(f"{year},{year}\n" for year in range(1700, 2025) if year != 1800)
    panel = read_panel(write("ds,y\n" + years))
    assert (panel.rows, panel.frequency, panel.series[0].values[-1, 0]) == (325, "YS-JAN", 2024)
    with pytest.raises(DataError, match="too far apart"):
        read_panel(write("ds,y\n1700,1\n2024,1\n"))
    with pytest.raises(DataError, match="too many missing times"):
        read_panel(write("ds,y\n1700,1\n2024,1\n"), frequency="ns")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (hours(1, 2, name="z"), "no column 'y'; the columns are 'ds', 'z'"),
        ("date,y\n2024-01-01,1\n", "no column 'ds'; the columns are 'date', 'y'; say which one holds the times"),
        ("ds,y,y\n2024-01-01,1,1\n", "more than one column 'y'"),
        (hours(1, "x1"), "column 'y', row 2: 'x1' is not a number"),
        (hours(1, '"1,5"'), r"column 'y', row 2: '1,5' is not a number; if commas are decimal points .*\(decimal"),
        ("ds;y\n2024-01-01;1,5\n", "cannot be read: .*if columns are separated by ';', name it"),
        ("ds;y\n2024-01-01;1\n", "no column 'ds'; the columns are 'ds;y'; if columns are separated by ';'"),
        (hours(1, 2, "inf"), "column 'y', row 3: 'inf' is not a finite number"),
        (hours("-2e30"), "column 'y', row 1: '-2e30' is not at most 1e[+]30 in magnitude"),
        (hours("", "NaN"), "no series has a value of 'y'"),
        ("ds,y\n2024-01-01,1\n01/02/2024,2\n", "column 'ds', row 2: '01/02/2024' is not a time in ISO 8601"),
        ("ds,y\n2024-01-01,1\n,2\n", "column 'ds', row 2: '' is not a time"),
        ("ds,y\n700000000,1\n", "column 'ds', row 1: '700000000' is not a time"),
        ("ds,y\n1512010110,1\n", "not a time"),
        ("ds,y\nnow,1\n", "not a time"),
        ("ds,y\n1066-10-14,1\n", "not a time"),
        ("ds,y\n2024-01-01T00:00Z,1\n2024-01-01T01:00,2\n", "row 2: .* is not a time with a time zone"),
        (
            "unique_id,ds,y\na,2024-01-01,1\n,2024-01-02,1\n",
            "column 'unique_id', row 2: the id of the series is missing",
        ),
        ("ds,y\n2024-01-01,1,2\n", "cannot be read: .*Expected 2 columns, got 3"),
        ("ds,y\n", "no rows"),
        ("", "cannot be read"),
        ("ds,y\n2024-01-01,1\n", "series 'pump': .*single time"),
    ],
)
def test_what_is_wrong_is_named(write: Write, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_panel(write(text))


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv.zip", "csv"])
def test_another_format_is_refused(write: Write, name: str) -> None:
    with pytest.raises(DataError, match=r"expected a file ending in \.csv"):
        read_panel(write(LONG, name))


def test_a_file_that_is_not_there_or_damaged_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_panel(tmp_path / "absent.csv")
    for name in ("a.parquet", "absent.pq"):
        with pytest.raises(DataError, match="cannot be read"):
            read_panel(write(LONG, name) if name.startswith("a.") else tmp_path / name)


def test_a_category_that_changes_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="series 'NA', column 'place': both 'south' and 'north'"):
        read_panel(write(LONG.replace("14,south", "14,north")), Layout(categories=("place",)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layout(targets=()), "one or more"),
        (lambda: Layout(targets=("y", "y")), "'y' is given more than one role"),
        (lambda: Layout(covariates=("ds",)), "'ds' is given more than one role"),
        (lambda: Layout(unique_id="y"), "'y' is given more than one role"),
        (lambda: Layout(categories=("c", "c")), "'c' is given more than one role"),
        (lambda: Layout(wide=True, covariates=("c",)), "wide"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(make: Callable[[], Layout], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_options_that_do_not_fit_the_file_are_refused(write: Write) -> None:
    path = write(hours(1, 2, 3))
    with pytest.raises(FrequencyError):
        read_panel(path, frequency="fortnight")
    with pytest.raises(DataError, match="no column of times"):
        read_panel(path, Layout(time=None), frequency="h")
    with pytest.raises(DataError, match="no column of times"):
        read_panel(path, Layout(time=None), until="2024-01-01")
    with pytest.raises(DataError, match="at least 1"):
        read_panel(path, max_rows=0)
    with pytest.raises(DataError, match="no rows until 2023"):
        read_panel(path, until="2023-01-01")


EPOCH = 1_704_067_200  # 2024-01-01


@pytest.mark.parametrize(
    ("unit", "scale"), [("epoch_s", 1), ("epoch_ms", 10**3), ("epoch_us", 10**6), ("epoch_ns", 10**9)]
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_numbers_since_1970_are_times(tmp_path: Path, unit: str, scale: int, ending: str) -> None:
    table = pd.DataFrame({"ds": [(EPOCH + 3600 * hour) * scale for hour in range(4)], "y": range(4)})
    path = tmp_path / f"a.{ending}"
    (table.to_csv if ending == "csv" else table.to_parquet)(path, index=False)
    recognised, named = read_panel(path), read_panel(path, Layout(time_format=unit))
    assert recognised.series[0].start_ns == named.series[0].start_ns == EPOCH * 10**9
    assert recognised.frequency == named.frequency == "h"
    (line,) = recognised.findings.lines()
    assert line == (
        f"times as numbers since 1970, recognised by their size: 4 ({unit}: {EPOCH * scale} is 2024-01-01T00:00:00)"
    )
    assert named.findings.lines() == ()


def test_a_unit_that_is_none_is_named(write: Write) -> None:
    with pytest.raises(DataError, match="time_format: 'epoch_m' is none of epoch_s, epoch_ms, epoch_us, epoch_ns"):
        read_panel(write(f"ds,y\n{EPOCH},1\n"), Layout(time_format="epoch_m"))


def test_whole_numbers_lose_no_digit(write: Write) -> None:
    start = EPOCH * 10**9 + 1
    assert read_panel(write(f"ds,y\n{start},1\n{start + 10**9},2\n")).series[0].start_ns == start


def test_fractions_of_seconds_and_old_times_count_too(write: Write) -> None:
    text = "ds,y\n" + "".join(f"{EPOCH + part / 10:.1f},{part}\n" for part in range(4))
    panel = read_panel(write(text))
    assert (panel.frequency, panel.series[0].start_ns) == ("100ms", EPOCH * 10**9)
    panel = read_panel(write("ds,y\n0,1\n-86400,2\n86400,3\n"), Layout(time_format="epoch_s"))
    assert (panel.frequency, panel.series[0].start_ns) == ("D", -86400 * 10**9)
    for value in ("1e300", "99999999999999999", "x", "nan"):
        with pytest.raises(
            DataError, match=f"row 2: '{value}' is not a time as epoch_s, from 1678-01-01 to 2261-12-31"
        ):
            read_panel(write(f"ds,y\n0,1\n{value},2\n"), Layout(time_format="epoch_s"))


def test_days_of_a_zone_may_be_epochs(write: Write) -> None:
    days = pd.date_range("2024-03-29", periods=4, freq="D", tz="Europe/Berlin")
    text = "ds,y\n" + "".join(f"{int(day.timestamp())},{row}\n" for row, day in enumerate(days))
    assert read_panel(write(text), Layout(time_zone="Europe/Berlin")).frequency == "D"


@pytest.mark.parametrize("delimiter", [";", "\t", "tab", "\\t", "|"])
def test_columns_may_be_separated_otherwise(write: Write, delimiter: str) -> None:
    sign = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    text = f"ds{sign}y\n2024-01-01{sign}1,5\n2024-01-02{sign}-2.000,25\n2024-01-03{sign}NA\n2024-01-04{sign}1e3\n"
    panel = read_panel(write(text), Layout(delimiter=delimiter, decimal=",", thousands="."))
    np.testing.assert_array_equal(panel.series[0].values[:, 0], [1.5, -2000.25, np.nan, 1000])


@pytest.mark.parametrize(
    ("value", "layout", "number"),
    [
        ('"1,234.5"', Layout(thousands=","), 1234.5),
        ('"1,234,567"', Layout(thousands=","), 1234567),
        ('" 1 234,5 "', Layout(decimal=",", thousands=" "), 1234.5),
        ("1'234", Layout(thousands="'"), 1234),
        ('",5"', Layout(decimal=","), 0.5),
        ('"5,"', Layout(decimal=","), 5),
        ("True", Layout(decimal=","), 1),
    ],
)
def test_numbers_may_be_written_otherwise(write: Write, value: str, layout: Layout, number: float) -> None:
    assert read_panel(write(hours(value, value)), layout).series[0].values[0, 0] == number


@pytest.mark.parametrize(
    ("value", "layout"),
    [
        ("1.5", Layout(decimal=",")),  # ambiguous: 15 or 1.5
        ("1.5", Layout(decimal=",", thousands=".")),
        ('"1,23,456"', Layout(thousands=",")),
        ('"1.234,5"', Layout(thousands=",")),
        ('"1,5,5"', Layout(decimal=",")),
        ("inf", Layout(decimal=",")),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(write: Write, value: str, layout: Layout) -> None:
    with pytest.raises(DataError, match=r"column 'y', row 2: .* is not a number with the decimal point"):
        read_panel(write(hours(1, value)), layout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ""}, "delimiter: expected one character"),
        ({"delimiter": ";;"}, "delimiter"),
        ({"delimiter": '"'}, "delimiter"),
        ({"decimal": ""}, "decimal: expected one sign"),
        ({"decimal": "5"}, "decimal"),
        ({"thousands": "-"}, "thousands: expected one sign"),
        ({"thousands": "."}, "thousands: '.' is the decimal point, too"),
    ],
)
def test_signs_that_cannot_be_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Layout(**options)  # type: ignore[arg-type]
