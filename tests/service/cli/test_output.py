"""Tables fit a terminal, and no name breaks them."""

import csv
import io
import json
from typing import Any

import pytest
from rich.cells import cell_len

from statecast.service.cli import output

COLUMNS = {"name": "name", "step": "version.step", "tags": "tags"}
RECORDS: list[dict[str, Any]] = [
    {"name": "pump 1", "version.step": 3, "tags": {"region": "north"}},
    {"name": "Zürich, \x1b[31m", "version.step": None, "tags": {}},
]


def test_a_table_is_aligned_and_shows_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.write_list("table", RECORDS, COLUMNS) == 2
    assert capsys.readouterr().out.splitlines() == [
        "NAME              STEP  TAGS",
        "pump 1            3     region=north",
        "Zürich, \\x1b[31m  -     -",
    ]


def test_json_nests_what_has_a_dot(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_list("json", RECORDS, COLUMNS)
    first, second = json.loads(capsys.readouterr().out)
    assert first == {"name": "pump 1", "version": {"step": 3}, "tags": {"region": "north"}}
    assert second["name"] == "Zürich, \x1b[31m"
    output.write_list("json", [], COLUMNS)
    assert capsys.readouterr().out == "[]\n"


def test_csv_has_a_header_even_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_list("csv", RECORDS, COLUMNS)
    header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == ["name", "version.step", "tags"]
    assert rows == [["pump 1", "3", '{"region": "north"}'], ["Zürich, \x1b[31m", "", "{}"]]
    output.write_list("csv", [], COLUMNS)
    assert capsys.readouterr().out == "name,version.step,tags\n"


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize(
    "name", ["x" * 256, "泵" * 128, "e\u0301" * 100, "📈" * 100, "a\u202eb", "\x00\x1b]0;owned\x07"]
)
def test_a_table_fits_the_terminal(width: int, name: str) -> None:
    shown = output.printable(name)
    lines = output.table([["NAME", "STEP"], [shown, "12345"], ["pump-1", "1"]], width)
    assert all(cell_len(line) <= width for line in lines)
    assert all(character.isprintable() for line in lines for character in line.replace("\u0301", ""))
    assert len({cell_len(line[: line.rindex("  ")]) for line in lines}) == 1  # the second column is aligned


def test_what_does_not_fit_is_left_out_from_the_right() -> None:
    rows = [["NAME", "STEP", "TAG", "TTL"], ["pump-1", "7", "f55be6842bea1574", "2592000"]]
    assert output.table(rows, 37) == ["NAME    STEP  TAG           TTL", "pump-1  7     f55be6842be…  2592000"]
    assert output.table(rows, 30) == ["NAME    STEP  TAG", "pump-1  7     f55be6842…"]
    assert output.table(rows, 18) == ["NAME    STEP", "pump-1  7"]
    assert output.table(rows, 3) == ["NAME", "pum…"]


def test_elsewhere_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_list("table", [{"name": "x" * 256, "version.step": 1, "tags": {}}], COLUMNS)
    assert "x" * 256 in capsys.readouterr().out


def test_a_long_list_is_written_in_blocks_with_one_header(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "ROWS_AT_ONCE", 2)
    rows = [{"name": f"pump-{number}", "version.step": number, "tags": {}} for number in range(5)]
    assert output.write_list("table", rows, COLUMNS) == 5
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *(f"pump-{number}" for number in range(5))]


def test_pairs_wrap_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_terminal_width", lambda: 30)
    output.write_one("table", {"name": "one two three four five six", "long": "泵" * 20, "none": ""})
    lines = capsys.readouterr().out.splitlines()
    assert all(cell_len(line) <= 30 for line in lines)
    assert lines[0].startswith("name  one two")
    assert lines[1].startswith("      ")
    assert lines[-1] == "none  -"
