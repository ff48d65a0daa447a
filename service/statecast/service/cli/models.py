"""The commands `statecast models`: imports a model; shows and manages those that a running server has loaded."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from statecast.service.cli.calling import connected, server_options
from statecast.service.cli.importing import import_model
from statecast.service.cli.model_management import alias, policy, retire
from statecast.service.cli.output import output_option, write_list, write_one

if TYPE_CHECKING:
    from statecast.client import ModelInfo

COLUMNS = {
    "name": "name",
    "version": "version",
    "horizon": "horizon",
    "frequency": "frequency",
    "targets": "targets",
    "covariates": "covariates",
    "categories": "categories",
    "cell": "cell",
    "layers": "layers",
    "hidden": "hidden_size",
    "aliases": "aliases",
    "policy": "policy",
    "retired": "retired",
}


@click.group()
def models() -> None:
    """Import a model; list, show and manage those of a running server."""


@models.command("list")
@server_options
@output_option("table", "json", "csv")
def list_models(output: str, **connection: Any) -> None:
    """List every version of every model, the newest version first."""
    with connected(connection) as client:
        write_list(output, map(_record, client.models()), COLUMNS)


@models.command()
@click.argument("name")
@click.argument("version", default="")
@server_options
@output_option("table", "json", "csv")
def show(name: str, version: str, output: str, **connection: Any) -> None:
    """Show a model: its inputs, outputs, size and digest; by default the newest VERSION."""
    with connected(connection) as client:
        write_one(output, _record(client.model(name, version)))


for command in (import_model, alias, policy, retire):
    models.add_command(command)


def _record(info: "ModelInfo") -> dict[str, Any]:
    """Return the fields of the message Model; sizes in bytes, the horizon in steps."""
    fields = asdict(info)
    fields["categories"] = {name: list(values) for name, values in info.categories.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
