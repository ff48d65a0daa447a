"""The demo's table and its lines say the same of a session."""

import io

from rich.console import Console

from statecast.service.demo.table import Row, table

ROW = Row("pump [1]", 12, "00000000000000ff", 1234.56, 1200.04, (1100.0, 1300.0), 3.14)


def test_a_row_has_its_units() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table([ROW], {"pump [1]": "°C"}))
    text = console.export_text()
    for cell in ("pump [1] °C", "12", "00000000000000ff", "1,234.6", "1,200.0", "1,100.0 .. 1,300.0", "3.1 ms"):
        assert cell in text


def test_a_line_is_for_logs() -> None:
    assert str(ROW) == "pump [1] #12: 1234.6, next 1200.0 (1100.0..1300.0)"
