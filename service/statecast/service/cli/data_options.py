"""Options that describe a data file, and reading it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from statecast.model.data import Panel

F = TypeVar("F", bound=Callable[..., Any])

_LAYOUT = (
    click.option("--id", help="Column with the id of each series; by default unique_id, if there is one."),
    click.option("--time", default="ds", show_default=True, help="Column with the times."),
    click.option("--no-time", is_flag=True, help="The file has no times; only the order of rows counts."),
    click.option("--target", multiple=True, default=("y",), show_default=True,
                 help="Column to forecast; repeat for several."),
)  # fmt: skip
_KNOWN = (
    click.option("--covariate", multiple=True, help="Column whose future is known, such as a price."),
    click.option("--category", multiple=True, help="Column with one text per series."),
)
_WRITING = (
    click.option("--wide", is_flag=True, help="Every column except the time is a series."),
    click.option("--time-format", help="Format of the times: as for strptime, or epoch_s, _ms, _us, _ns."),
    click.option("--time-zone", default="", help="Zone of the times, such as Europe/Berlin or +01:00; by default "
                 "their own, or UTC."),
    click.option("--delimiter", default=",", show_default=True,
                 help="Column separator of a CSV file: one character, or tab."),
    click.option("--decimal", default=".", show_default=True, help="Decimal point of numbers in a CSV file."),
    click.option("--thousands", default="", help="Thousands separator of numbers in a CSV file, such as '.'."),
    click.option("--frequency", help="Time between two rows as a pandas alias; inferred by default."),
    click.option("--rows", type=click.IntRange(min=1), help="Read only this many rows of each series."),
    click.option("--until", help="Read only up to this time, inclusive."),
)  # fmt: skip


def data_options(command: F) -> F:
    """Add the options of a data file with covariates and categories to a command."""
    return _with(command, (*_LAYOUT, *_KNOWN, *_WRITING))


def series_options(command: F) -> F:
    """Add the options of a data file without covariates and categories to a command."""
    return _with(command, (*_LAYOUT, *_WRITING))


def _with(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def read_data(data: Path, options: dict[str, Any]) -> "Panel":
    """Return the panel in the file; print its size and the corrections made."""
    from statecast.model.data import Layout, read_panel

    layout = Layout(
        unique_id=options["id"],
        time=None if options["no_time"] else options["time"],
        targets=options["target"],
        covariates=options.get("covariate", ()),
        categories=options.get("category", ()),
        wide=options["wide"],
        time_format=options["time_format"],
        time_zone=options["time_zone"],
        delimiter=options["delimiter"],
        decimal=options["decimal"],
        thousands=options["thousands"],
    )
    panel = read_panel(data, layout, frequency=options["frequency"], max_rows=options["rows"], until=options["until"])
    every = f" every {panel.frequency}" if panel.frequency else ""
    click.echo(f"{data.name}: {len(panel.series)} series, {panel.rows:,} rows{every}")
    for line in panel.findings.lines():
        click.echo(f"  {line}")
    return panel
