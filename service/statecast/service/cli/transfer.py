"""The commands `statecast sessions export` and `import`: sessions of a running server, to and from a file."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from statecast.service.cli.calling import calling, connected, failure, server_options
from statecast.service.cli.output import output_option, printable, utc, write_list, write_one
from statecast.service.cli.progress import progress_bar

if TYPE_CHECKING:
    from statecast.client import ModelInfo
    from statecast.service.cli.admin_calls import AdminCalls
    from statecast.service.cli.session_file import Contents
    from statecast.v1 import admin_service_pb2 as pb

SESSIONS_A_FRAME, BYTES_A_FRAME = 64, 1024 * 1024
COLUMNS = {"session": "session_id", "outcome": "outcome", "error": "error"}
OUTCOMES = ("created", "replaced", "unchanged")
_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


@click.command("export")
@click.argument("file", type=_FILE)
@click.option("--prefix", default="", help="Export only sessions whose id begins with this.")
@server_options
@output_option("table", "json", "csv")
def export_sessions(file: Path, prefix: str, output: str, **connection: Any) -> None:
    """Export sessions to a FILE, from which any server with the same models can import them; - is standard output."""
    _check_output(file, output)
    with _told(file), calling(connection), _admin(connection) as calls:
        contents, unreadable = _export(calls, file, prefix)
    record = {"file": str(file), "bytes": contents.nbytes, **_exported_record(contents)}
    if str(file) == "-":
        click.echo(f"exported {_number(contents.sessions)}", err=True)
    else:
        write_one(output, record)
    if unreadable:
        raise click.ClickException(f"{_number(unreadable)} could not be exported; the file holds all others")


@click.command("import")
@click.argument("file", type=_FILE)
@click.option("--prefix", default="", help="Import only sessions whose id begins with this.")
@click.option("--replace", is_flag=True, help="Replace sessions that exist, whatever they have taken since.")
@server_options
@output_option("table", "json", "csv")
def import_sessions(file: Path, prefix: str, replace: bool, output: str, **connection: Any) -> None:
    """Import the sessions of a FILE that 'statecast sessions export' has made; - is standard input.

    The whole file is checked first. A session that exists is refused, unless it is the same as in the file.
    """
    from statecast.service.cli.session_file import check, opened, sessions

    with _told(file), opened(file) as content:
        chosen = check(content, prefix)
        if not chosen.sessions:
            what = f" whose id begins with {prefix!r}" if prefix else ""
            raise click.ClickException(f"{file} holds no session{what}")
        with connected(connection) as client:
            _check_models(chosen, client.models())
        with calling(connection), _admin(connection) as calls:
            _Import(calls, chosen.sessions, connection).run(sessions(content, prefix), output, replace=replace)


def _export(calls: "AdminCalls", file: Path, prefix: str) -> tuple["Contents", int]:
    """Write the file; return what it holds, and the number of sessions that could not be read.

    Raises:
        click.ClickException: There is no session.
    """
    from statecast.service.cli.session_file import SessionWriter

    messages = calls.export(prefix)
    source = next(messages).source
    manifest = {
        "server_version": source.server_version,
        "tenant": source.tenant,
        "prefix": prefix,
        "exported_at": utc(source.start_time.ToDatetime(UTC).replace(microsecond=0)),
    }
    with _place(file) as out, progress_bar("exporting", source.session_count or None) as advance:
        writer, seen, unreadable = SessionWriter(out, manifest), set[str](), 0
        for message in messages:
            for session in message.sessions:
                if session.session_id not in seen:  # Redis may name a key twice
                    seen.add(session.session_id)
                    writer.add(session)
            unreadable += _tell_unreadable(message.unreadable)
            advance(len(message.sessions))
        if not writer.contents.sessions:
            what = f"no session's id begins with {prefix!r}" if prefix else "this tenant has no sessions"
            raise click.ClickException(f"{what}; nothing was exported")
        return writer.finish(), unreadable


class _Import:
    """Imports the sessions of a file, and counts what became of them."""

    def __init__(self, calls: "AdminCalls", total: int, connection: dict[str, Any]) -> None:
        self._calls, self._total, self._connection = calls, total, connection
        self._counts = Counter[str]()

    def run(self, sessions: Iterator["pb.ExportedSession"], output: str, *, replace: bool) -> None:
        """Import all of them, and write each result at once.

        Raises:
            click.ClickException: Not all could be imported.
        """
        from statecast.client import StatecastError

        results = self._results(sessions, replace=replace)
        try:
            if output == "table":
                self._tell(results)
            else:
                write_list(output, results, COLUMNS)
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted: {self._so_far}") from None
        except StatecastError as error:
            raise click.ClickException(f"{failure(error, self._connection).message}; {self._so_far}") from error
        if refused := self._counts["refused"]:
            raise click.ClickException(f"{refused} of {self._total} sessions were not imported")

    @property
    def _so_far(self) -> str:
        done = sum(self._counts[outcome] for outcome in OUTCOMES)
        return f"{done} of {self._total} sessions are imported, or some more; import the file again to go on"

    def _results(self, sessions: Iterator["pb.ExportedSession"], *, replace: bool) -> Iterator[dict[str, Any]]:
        with self._calls.importing(replace=replace) as importing, progress_bar("importing", self._total) as advance:
            for frame in _frames(sessions):
                for result in map(self._result, importing.take(frame)):
                    self._counts[result["outcome"]] += 1
                    yield result
                advance(len(frame))

    def _result(self, result: "pb.ImportResult") -> dict[str, Any]:
        if not result.HasField("status"):
            return {"session_id": result.session_id, "outcome": OUTCOMES[result.outcome - 1], "error": None}
        return {"session_id": result.session_id, "outcome": "refused", "error": _problem(result, self._connection)}

    def _tell(self, results: Iterator[dict[str, Any]]) -> None:
        """Write only the errors, and at the end the counts."""
        for result in results:
            if result["error"]:
                click.echo(f"Error: {result['error']}", err=True)
        counts = ", ".join(f"{self._counts[outcome]:,} {outcome}" for outcome in OUTCOMES)
        click.echo(f"imported {_number(sum(self._counts[outcome] for outcome in OUTCOMES))}: {counts}")


def _problem(result: "pb.ImportResult", connection: dict[str, Any]) -> str:
    """Return why a session was refused, in terms of the command."""
    from statecast.client import AlreadyExists, InvalidArgument
    from statecast.client.errors import from_status

    error = from_status(result.status)
    message = failure(error, connection).message
    if isinstance(error, AlreadyExists):
        return message.rpartition("; ")[0] + "; add --replace to replace it"
    if isinstance(error, InvalidArgument):  # its field names a place in the frame
        return f"session {printable(result.session_id)!r}: {message.partition('.')[2]}"
    return message


def _frames(sessions: Iterator["pb.ExportedSession"]) -> Iterator[list["pb.ExportedSession"]]:
    """Yield the sessions in frames of a limited size."""
    frame: list[pb.ExportedSession] = []
    nbytes = 0
    for session in sessions:
        size = session.ByteSize()
        if frame and (len(frame) == SESSIONS_A_FRAME or nbytes + size > BYTES_A_FRAME):
            yield frame
            frame, nbytes = [], 0
        frame.append(session)
        nbytes += size
    if frame:
        yield frame


def _check_models(chosen: "Contents", models: Sequence["ModelInfo"]) -> None:
    """Refuse a file whose sessions run on other models than the server's.

    Raises:
        click.ClickException: One is missing or differs.
    """
    there = {(model.name, model.version): model.digest for model in models}
    problems = []
    for used, count in sorted(chosen.models.items()):
        digest = there.get((used.name, used.version))
        if digest != used.digest:
            has = "the server does not have it" if digest is None else f"the server's has digest {digest[:12]}..."
            problems.append(f"{printable(str(used))}, digest {used.digest[:12]}... ({count} sessions): {has}")
    if problems:
        raise click.ClickException(
            f"the sessions run on other models; nothing was imported. {'; '.join(problems)}. Copy their folders "
            "NAME/VERSION from the old server's --models to this one's, then import again"
        )


def _number(sessions: int) -> str:
    return f"{sessions:,} session{'s' * (sessions != 1)}"


def _exported_record(contents: "Contents") -> dict[str, Any]:
    models = {str(used): used.digest for used in sorted(contents.models)}
    return {"sessions": contents.sessions, "models": models, **contents.manifest}


def _tell_unreadable(unreadable: Sequence["pb.UnreadableSession"]) -> int:
    for each in unreadable:
        click.echo(f"Error: {printable(each.status.message)}", err=True)
    return len(unreadable)


def _check_output(file: Path, output: str) -> None:
    """Refuse what would mix with the file on standard output."""
    if str(file) != "-":
        return
    if output != "table":
        raise click.UsageError(f"--output {output}: the file itself goes to standard output; name a file instead of -")
    if sys.stdout.isatty():
        raise click.UsageError("the file is not for a terminal; name a file instead of -, or redirect the output")


@contextmanager
def _place(file: Path) -> Iterator[BinaryIO]:
    """Yield what the file is written to."""
    from statecast.service.cli.session_file import written

    if str(file) == "-":
        yield sys.stdout.buffer
        return
    with written(file) as out:
        yield out


@contextmanager
def _admin(connection: dict[str, Any]) -> Iterator["AdminCalls"]:
    from statecast.service.cli.admin_calls import AdminCalls

    with closing(AdminCalls(connection)) as calls:
        yield calls


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Turn the errors of a file into those of a command."""
    from statecast.service.cli.session_file import SessionFileError

    try:
        yield
    except SessionFileError as error:
        raise click.ClickException(f"{file}: {error}") from error
