"""The command `statecast sessions upgrade`: moves sessions of a running server to another model."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from statecast.service.cli.calling import connected, failure, server_options
from statecast.service.cli.output import output_option, printable, write_list

if TYPE_CHECKING:
    from statecast.client import Client, ModelInfo, SessionInfo

COLUMNS = {
    "session": "session_id",
    "model": "model",
    "version": "model_version",
    "re-encoded": "reencoded_steps",
    "exact": "exact",
    "error": "error",
}
FIELDS = ("session_id", "model", "model_version", "reencoded_steps", "exact", "error")


class Target(NamedTuple):
    """The model to move to, as UpgradeSession names it."""

    model: str
    model_version: str

    def __str__(self) -> str:
        return " version ".join(filter(None, self)) or "the newest version of its model"


@click.command()
@click.argument("session_ids", metavar="[ID]...", nargs=-1)
@click.option("--prefix", help="Upgrade the sessions whose id begins with this; an empty one means all.")
@click.option(
    "--model",
    default="",
    help="Model to move to: NAME for its newest version, NAME:VERSION, NAME@ALIAS, or a VERSION of each session's own "
    "model.  [default: the newest version of each session's own]",
)
@click.option("--yes", is_flag=True, help="Do not ask before upgrading those of --prefix.")
@server_options
@output_option("table", "json", "csv")
def upgrade(
    session_ids: tuple[str, ...], prefix: str | None, model: str, yes: bool, output: str, **connection: Any
) -> None:
    """Move live sessions to another model, or another version of theirs; their state is re-encoded.

    Each keeps its version, request ids, options and time to live. Running the command again goes on where it ended.
    """
    if (prefix is None) == (not session_ids):
        raise click.UsageError("name the sessions to upgrade: either by ID, or with --prefix")
    with connected(connection) as client:
        target = _target(model, client.models())
        chosen = list(dict.fromkeys(session_ids))
        if prefix is not None:
            chosen = list({info.session_id: None for info in client.sessions(prefix) if not _is_there(info, target)})
            _confirm(prefix, len(chosen), target, is_sure=yes)
        failed = _upgrade(output, client, chosen, target, connection)
    if failed:
        raise click.ClickException(f"{failed} of {len(chosen)} sessions could not be upgraded; they are as they were")


def _target(text: str, models: Sequence["ModelInfo"]) -> Target:
    """Return what --model means on this server.

    Raises:
        click.UsageError: There is no such model or version.
    """
    name, _, version = text.partition(":")
    names, versions = {each.name for each in models}, {each.version for each in models}
    if not text or name.partition("@")[0] in names:
        return Target(name, version)
    if not version and name in versions:
        return Target("", name)
    raise click.UsageError(
        f"--model: the server has no model and no version {text!r}; to see those that it has: statecast models list"
    )


def _is_there(info: "SessionInfo", target: Target) -> bool:
    """Return True if a session needs no upgrade; if in doubt, the server decides."""
    name, version = target
    return bool(version) and name in ("", info.model) and info.model_version == version


def _confirm(prefix: str, count: int, target: Target, *, is_sure: bool) -> None:
    if not count:
        click.echo(f"no session whose id begins with {prefix!r} needs to move to {target}", err=True)
        return
    what = f"upgrade {count} session{'s' * (count > 1)} whose id begins with {prefix!r} to {target}"
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"add --yes to {what}")
    click.confirm(what[0].upper() + what[1:] + "?", abort=True, err=True)


def _upgrade(output: str, client: "Client", ids: Sequence[str], target: Target, connection: dict[str, Any]) -> int:
    """Upgrade sessions one after the other, and write each result at once; return how many failed.

    Raises:
        StatecastError: The server cannot be reached, or allows none to be upgraded.
    """
    failed = 0

    def results() -> Iterator[dict[str, Any]]:
        nonlocal failed
        for session_id in ids:
            result = _upgrade_one(client, session_id, target, connection)
            failed += result["error"] is not None
            yield result

    if output == "table":
        for result in results():
            _tell(result)
    else:
        write_list(output, results(), COLUMNS)
    return failed


def _tell(result: dict[str, Any]) -> None:
    name = printable(result["session_id"])
    if result["error"] is not None:
        click.echo(f"Error: {name}: {result['error']}", err=True)
        return
    how = "exactly, " * result["exact"] + f"{result['reencoded_steps']} steps re-encoded"
    click.echo(f"{name} is on {result['model']} version {result['model_version']} ({how})")


def _upgrade_one(client: "Client", session_id: str, target: Target, connection: dict[str, Any]) -> dict[str, Any]:
    """Upgrade a session; return what became of it, or why it could not be upgraded."""
    from statecast.client import InvalidArgument, NotFound, PreconditionFailed

    values: tuple[Any, ...]
    try:
        done = client.session(session_id, resume_only=True).upgrade(target.model, model_version=target.model_version)
    except (InvalidArgument, NotFound, PreconditionFailed) as error:  # of this session alone
        values = (session_id, None, None, None, None, failure(error, connection).message)
    else:
        values = (session_id, done.model, done.model_version, done.reencoded_steps, done.exact, None)
    return dict(zip(FIELDS, values, strict=True))
