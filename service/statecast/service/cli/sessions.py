"""The commands `statecast sessions`: list, show, fork and close sessions of a running server; move them by files."""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from statecast.service.cli.calling import connected, failure, server_options
from statecast.service.cli.output import output_option, printable, utc, write_list, write_one
from statecast.service.cli.transfer import export_sessions, import_sessions
from statecast.service.cli.upgrading import upgrade

if TYPE_CHECKING:
    from statecast.client import Client, SessionInfo

COLUMNS = {
    "session": "session_id",
    "model": "model",
    "version": "model_version",
    "step": "version.step",
    "tag": "version.tag",
    "last time": "last_time",
    "ttl": "time_to_live",
    "categories": "categories",
}
RESULT = {"session": "session_id", "closed": "closed", "error": "error"}
FIELDS = (
    "session_id", "model", "model_version", "version.step", "version.tag", "time_to_live", "last_time", "categories",
    "time_zone", "max_ahead", "frequency", "alias",
)  # fmt: skip
LONGEST_TTL_SECONDS = 1e9
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


class Span(click.FloatRange):
    """A duration in seconds, or with a unit: 90, 90s, 15m, 36h, 30d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        match = _SPAN.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write 90 for seconds, or 15m, 36h, 30d", param, ctx)
        return float(super().convert(float(match[1]) * UNITS[match[2]], param, ctx))


@click.group()
def sessions() -> None:
    """List, show, fork, upgrade, close, export and import sessions of a running server."""


sessions.add_command(export_sessions)
sessions.add_command(import_sessions)
sessions.add_command(upgrade)


@sessions.command("list")
@click.option("--prefix", default="", help="List only sessions whose id begins with this.")
@click.option("--limit", type=click.IntRange(min=1), help="Most sessions to list.  [default: all]")
@server_options
@output_option("table", "json", "csv")
def list_sessions(prefix: str, limit: int | None, output: str, **connection: Any) -> None:
    """List sessions, in no order."""
    with connected(connection) as client:
        found = islice(_each_once(client.sessions(prefix)), limit)
        count = write_list(output, map(_record, found), COLUMNS)
    if not count:
        what = f"no session's id begins with {prefix!r}" if prefix else "the server has no sessions of this tenant"
        click.echo(what, err=True)


@sessions.command()
@click.argument("session_id", metavar="ID")
@server_options
@output_option("table", "json", "csv")
def show(session_id: str, output: str, **connection: Any) -> None:
    """Show a session."""
    with connected(connection) as client:
        write_one(output, _record(client.session(session_id).info()))


@sessions.command()
@click.argument("source")
@click.argument("session_id", metavar="ID")
@click.option(
    "--ttl", type=Span(min=0, max=LONGEST_TTL_SECONDS),
    help="Time to keep the copy after its last observation: seconds, or 15m, 36h, 30d.  [default: as SOURCE]",
)  # fmt: skip
@server_options
@output_option("table", "json", "csv")
def fork(source: str, session_id: str, ttl: float | None, output: str, **connection: Any) -> None:
    """Copy the session SOURCE as it stands under a new ID, and show the copy."""
    with connected(connection) as client:
        copy = client.session(source).fork(session_id, time_to_live=ttl)
        write_one(output, _record(copy.info()))


@sessions.command()
@click.argument("session_ids", metavar="[ID]...", nargs=-1)
@click.option("--prefix", help="Close the sessions whose id begins with this.")
@click.option("--yes", is_flag=True, help="Do not ask before closing those of --prefix.")
@server_options
@output_option("table", "json", "csv")
def close(session_ids: tuple[str, ...], prefix: str | None, yes: bool, output: str, **connection: Any) -> None:
    """Close sessions for good: by ID, or all whose id begins with a prefix."""
    if (prefix is None) == (not session_ids):
        raise click.UsageError("name the sessions to close: either by ID, or with --prefix")
    if prefix == "":
        raise click.UsageError("--prefix: is empty, which would close every session; give the beginning of their ids")
    with connected(connection) as client:
        chosen = list(dict.fromkeys(session_ids))
        if prefix is not None:
            chosen = [info.session_id for info in _each_once(client.sessions(prefix))]
            _confirm(prefix, len(chosen), is_sure=yes)
        _close(output, client, chosen, connection, may_be_gone=prefix is not None)


def _confirm(prefix: str, count: int, *, is_sure: bool) -> None:
    """Ask before closing sessions that were not named one by one.

    Raises:
        click.ClickException: There are none, or nobody can be asked.
        click.Abort: The answer is no.
    """
    if not count:
        raise click.ClickException(f"no session's id begins with {prefix!r}; to see all: statecast sessions list")
    what = f"close {count} session{'s' * (count > 1)} whose id begins with {prefix!r}"
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"add --yes to {what}")
    click.confirm(what[0].upper() + what[1:] + "?", abort=True, err=True)


def _close(output: str, client: "Client", ids: list[str], connection: dict[str, Any], *, may_be_gone: bool) -> None:
    """Close sessions one after the other, and write each result at once.

    Raises:
        click.ClickException: Not all are closed.
        StatecastError: The server cannot be reached, or allows none to be closed.
    """
    if len(ids) == 1 and not may_be_gone:
        client.session(ids[0]).close()
        _tell(output, [_result(ids[0], "")])
        return
    done = 0

    def results() -> Iterator[dict[str, Any]]:
        nonlocal done
        for session_id in ids:
            error = _close_one(client, session_id, connection, may_be_gone=may_be_gone)
            done += not error
            yield _result(session_id, error)

    try:
        _tell(output, results())
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted: {done} of {len(ids)} sessions are closed, or one more") from None
    if done < len(ids):
        raise click.ClickException(f"{len(ids) - done} of {len(ids)} sessions could not be closed")


def _close_one(client: "Client", session_id: str, connection: dict[str, Any], *, may_be_gone: bool) -> str:
    """Close a session, and return why it could not be; empty if it is closed."""
    from statecast.client import InvalidArgument, NotFound, VersionMismatch

    try:
        client.session(session_id).close()
    except (InvalidArgument, NotFound, VersionMismatch) as error:  # of this session alone
        return "" if may_be_gone and isinstance(error, NotFound) else failure(error, connection).message
    return ""


def _result(session_id: str, error: str) -> dict[str, Any]:
    return {"session_id": session_id, "closed": not error, "error": error or None}


def _tell(output: str, results: Iterable[dict[str, Any]]) -> None:
    if output != "table":
        write_list(output, results, RESULT)
        return
    for result in results:
        if result["closed"]:
            click.echo(f"closed {printable(result['session_id'])}")
        else:
            click.echo(f"Error: {result['error']}", err=True)


def _each_once(found: Iterable["SessionInfo"]) -> Iterator["SessionInfo"]:
    """Leave out repeated sessions: a listing may name a session twice while Redis rearranges its keys."""
    seen = set()
    for info in found:
        if info.session_id not in seen:
            seen.add(info.session_id)
            yield info


def _record(info: "SessionInfo") -> dict[str, Any]:
    """Return the fields of the message Session; durations in seconds. If the record cannot be read, only the id."""
    if not info.model:
        return {**dict.fromkeys(FIELDS), "session_id": info.session_id}
    values = (
        info.session_id,
        info.model,
        info.model_version,
        info.version.step,
        f"{info.version.tag:016x}",
        info.time_to_live.total_seconds(),
        info.last_time and utc(info.last_time),
        dict(info.categories),
        info.time_zone,
        None if info.max_ahead is None else info.max_ahead.total_seconds(),
        info.frequency,
        info.alias,
    )
    return dict(zip(FIELDS, values, strict=True))
