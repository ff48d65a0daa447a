"""Output of the operators' commands: tables for people, JSON and CSV for programs.

A record is a flat mapping of field names to values. A dot in a name, as in "version.step", is a nested object in JSON.
"""

import csv
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, TypeAlias, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Record: TypeAlias = Mapping[str, Any]
Columns: TypeAlias = Mapping[str, str]
"""Headings of a table, each with the name of its field."""

GAP = "  "
NARROWEST = 4
"""Width to which a column is cut at most."""
ROWS_AT_ONCE = 500
"""Rows of a table that are aligned with each other."""


def output_option(*formats: str) -> Callable[[F], F]:
    """Add the option --output to a command, which gets it as `output`; the first format is the default."""
    return click.option(
        "--output", type=click.Choice(formats), default=formats[0], show_default=True, help="Format of the output."
    )


def write_list(output: str, records: Iterable[Record], columns: Columns) -> int:
    """Write records as they come, and return their number.

    Args:
        output: "table", "json" or "csv".
        records: All with the same fields.
        columns: The columns of a table; their fields are also those of a CSV file without any record.
    """
    _take_any_character()
    write = {"table": _write_table, "json": _write_json, "csv": _write_csv}[output]
    return write(records, columns)


def write_one(output: str, record: Record) -> None:
    """Write one record: a table with a line for each field, a JSON object, or CSV with a header."""
    _take_any_character()
    if output == "json":
        click.echo(json.dumps(_nested(record), indent=2))
    elif output == "csv":
        _write_csv([record], {})
    else:
        write_pairs([(name, _cell(value)) for name, value in record.items()])


def write_pairs(rows: Sequence[Sequence[str]]) -> None:
    """Write lines of cells; the last cell is wrapped to fit the terminal."""
    from rich.cells import cell_len, chop_cells

    width = _terminal_width()
    *heads, _ = zip(*rows, strict=True)
    indents = [max(map(cell_len, head)) + len(GAP) for head in heads]
    for *first, last in rows:
        lines = [last]
        if width is not None:
            room = max(NARROWEST, width - sum(indents))
            wrapped = textwrap.wrap(last, room, drop_whitespace=False, break_on_hyphens=False) or [""]
            lines = [piece for line in wrapped for piece in chop_cells(line, room) or [""]]
        start = "".join(_fit(cell, indent) for cell, indent in zip(first, indents, strict=True))
        click.echo((start + lines[0]).rstrip())
        for line in lines[1:]:
            click.echo(" " * sum(indents) + line.rstrip())


def table(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return the lines of a table.

    Args:
        rows: The cells of each row.
        width: Columns of the terminal, so that long cells are cut, and the last columns that do not fit left out; None
            to show everything.
    """
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        first, *others = widths  # the first column names the row, so it gets most room
        widths = [min(first, max(width // 2, NARROWEST)), *(min(other, max(width // 3, NARROWEST)) for other in others)]
        while sum(widths) + len(GAP) * (len(widths) - 1) > width and len(widths) > 1:
            widths.pop()
    return [GAP.join(map(_fit, row[: len(widths)], widths)).rstrip() for row in rows]


def printable(text: str) -> str:
    """Return the text, with characters that a terminal would obey or not show as Python's escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def utc(moment: datetime) -> str:
    """Return a time as ISO 8601, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _write_table(records: Iterable[Record], columns: Columns) -> int:
    """Write rows in blocks, so that a long list shows at once and takes little memory."""
    rows, count = iter(records), 0
    header = [heading.upper() for heading in columns]
    while block := [[_cell(row[field]) for field in columns.values()] for row in islice(rows, ROWS_AT_ONCE)]:
        lines = table([header, *block], _terminal_width())
        for line in lines[1:] if count else lines:
            click.echo(line)
        count += len(block)
    return count


def _write_json(records: Iterable[Record], _: Columns) -> int:
    count = 0
    for count, record in enumerate(records, start=1):
        click.echo(("[\n" if count == 1 else ",\n") + json.dumps(_nested(record)), nl=False)
    click.echo("\n]" if count else "[]")
    return count


def _write_csv(records: Iterable[Record], columns: Columns) -> int:
    rows, count = iter(records), 0
    first = next(rows, None)
    click.echo(_csv_line(columns.values() if first is None else first), nl=False)
    if first is not None:
        for count, record in enumerate(chain([first], rows), start=1):  # noqa: B007
            # click would remove what looks like a colour
            click.echo(_csv_line(map(_csv_cell, record.values())), nl=False, color=True)
    return count


def _csv_line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, (bool, list, dict)):
        return json.dumps(value)
    return printable(value) if isinstance(value, str) and sys.stdout.isatty() else value


def _nested(record: Record) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in record.items():
        *path, last = name.split(".")
        place = result
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return result


def _cell(value: Any) -> str:
    """Return a value for people."""
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{printable(key)}={_inner(each)}" for key, each in value.items())
    return _inner(value)


def _inner(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(map(_inner, value))
    return f"{value:.12g}" if isinstance(value, float) else printable(str(value))


def _fit(text: str, width: int) -> str:
    """Return the text cut or filled up to `width` columns of a terminal; a wide character takes two."""
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(text, width - 1) + "…" if cell_len(text) > width else set_cell_size(text, width)


def _terminal_width() -> int | None:
    """Return the terminal's width in columns; None if the output goes elsewhere, where nothing must be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _take_any_character() -> None:
    """Write characters that the terminal's encoding lacks as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
