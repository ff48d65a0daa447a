"""Calls of the operators' commands to a server: its options, and one line for each error."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from statecast.service.cli.client_options import client_options, refused
from statecast.service.cli.output import printable

if TYPE_CHECKING:
    from statecast.client import Client, StatecastError

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_SECONDS = 1e6
_OPTIONS = {"time_to_live": "--ttl", "prefix": "--prefix"}
"""Options of the commands by the field of the request."""
# Signs in gRPC's messages about a connection, and what is wrong. The first that fits counts.
_CONNECTION = (
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS; leave out --tls, --ca and --cert, or add --no-tls"),
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not trusted here; name its authority with --ca"),
    ("Hostname Verification", "the server's certificate has another name; give that name with --server-name"),
    ("CERTIFICATE_REQUIRED", "the server asks for a certificate; add --cert and --key"),
    ("Connection refused", "no server listens there; start one, or name another with --target"),
    ("errors resolving", "the host cannot be found; check --target"),
    ("DNS resolution failed", "the host cannot be found; check --target"),
    ("Failed parsing HTTP/2", "it does not speak gRPC; check the port in --target"),
)
_CUT_OFF = ("Socket closed", "reset by peer", "Broken pipe")


def server_options(command: F) -> F:
    """Add the options of a connection to a command. It gets them as keyword arguments, for `connected`."""
    command = click.option(
        "--timeout-seconds",
        type=click.FloatRange(min=0.1, max=LONGEST_SECONDS),
        default=5.0,
        show_default=True,
        help="Time for each request, with its retries.",
    )(client_options(command))
    target = click.option(
        "--target", default="localhost:50051", show_default=True, help="gRPC host and port of the server."
    )
    return target(command)


@contextmanager
def connected(connection: dict[str, Any]) -> Iterator["Client"]:
    """Yield a client with the options that `server_options` has added; errors of its calls become those of a command.

    Raises:
        click.ClickException: An option is wrong, or a call has failed.
    """
    with calling(connection):
        from statecast.client import Client

        with Client(**connection) as client:
            yield client


@contextmanager
def calling(connection: dict[str, Any]) -> Iterator[None]:
    """Turn the errors of calls into those of a command.

    Raises:
        click.ClickException: An option is wrong, or a call has failed.
    """
    # gRPC's core would log each failed TLS handshake; it reads the variable when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from statecast.client import StatecastError

    try:
        yield
    except StatecastError as error:
        raise failure(error, connection) from error


def failure(error: "StatecastError", connection: dict[str, Any]) -> click.ClickException:
    """Return the error of a command for one of a call: one line with the cause and the next step."""
    from statecast.client import DeadlineExceeded, InvalidArgument, NotFound, Unauthenticated, Unavailable

    message = printable(error.message)
    if isinstance(error, InvalidArgument):
        if error.field in _OPTIONS:
            return click.ClickException(_OPTIONS[error.field] + message.removeprefix(error.field))
        return refused(error)
    if isinstance(error, NotFound) and error.reason.startswith("SESSION"):
        cause = message.rpartition("; ")[0] or message
        message = f"{cause}; to see those that exist: statecast sessions list"
    elif isinstance(error, Unauthenticated):
        message += "; give it with --api-key or the variable STATECAST_API_KEY"
    elif isinstance(error, (Unavailable, DeadlineExceeded)) and not error.reason:
        message = f"{printable(connection['target'])}: {_why(message, connection)}"
    return click.ClickException(message)


def _why(message: str, connection: dict[str, Any]) -> str:
    """Return why there is no answer, from gRPC's message."""
    for sign, why in _CONNECTION:
        if sign in message:
            return why
    if any(sign in message for sign in _CUT_OFF):
        is_encrypted = any(connection[name] for name in ("tls", "ca", "cert")) or os.environ.get("STATECAST_CA")
        if connection["tls"] is False or not is_encrypted:
            return "the server closed the connection; if it speaks TLS, add --tls, or --ca with its authority"
        return "the server closed the connection; if it asks for a certificate, add --cert and --key"
    return (
        f"no answer within {connection['timeout_seconds']:g} s ({message}); check --target, or raise --timeout-seconds"
    )
