"""The command `statecast keys`: makes, lists and revokes API keys."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from statecast.service.access import api_keys
from statecast.service.access.api_keys import ApiKey, ApiKeys, KeyFileError
from statecast.service.access.principal import ROLES

LONGEST_DAYS = 36_500
FILE = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("api-keys.json"),
    show_default=True,
    envvar="STATECAST_API_KEYS",
    show_envvar=True,
    help="The file that the server's --api-keys names.",
)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys.

    Servers read the file again when it changes, within a second or two.
    """


@keys.command()
@FILE
@click.option("--tenant", default="default", show_default=True, help="Tenant whose sessions the key opens.")
@click.option(
    "--role", type=click.Choice(list(ROLES)), default="write", show_default=True, help="What the key's holder may do."
)
@click.option(
    "--days",
    type=click.FloatRange(min=0, max=LONGEST_DAYS, min_open=True),
    help="Days until it expires.  [default: never]",
)
@click.option("--note", default="", help="Whom it is for.")
def create(path: Path, tenant: str, role: str, days: float | None, note: str) -> None:
    """Make a key and print it: it is shown once, and kept nowhere."""
    try:
        key_id, key = api_keys.create(path, tenant, role, days, note)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error
    click.echo(key)
    click.echo(f"key {key_id} of tenant {tenant}, role {role}, is in {path}; it cannot be shown again", err=True)


@keys.command("list")
@FILE
def list_keys(path: Path) -> None:
    """List the keys of a file, without their secrets."""
    try:
        found = ApiKeys.read(path).by_id
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error
    rows = [("ID", "TENANT", "ROLE", "CREATED", "EXPIRES", "NOTE"), *(_row(*each) for each in found.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command()
@FILE
@click.argument("key_id")
def revoke(path: Path, key_id: str) -> None:
    """Remove the key with this ID: servers refuse it, and end its streams, within a second or two."""
    try:
        key = api_keys.revoke(path, key_id)
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"key {key_id} of tenant {key.tenant}, role {key.role}, is revoked", err=True)


def _row(key_id: str, key: ApiKey) -> tuple[str, ...]:
    expires = "never" if key.expires_at is None else _day(key.expires_at)
    if key.expires_at is not None and key.expires_at <= time.time():
        expires += " (expired)"
    note = "".join(character for character in key.note if character.isprintable())
    return key_id, key.tenant, key.role, _day(key.created_at), expires, note


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
