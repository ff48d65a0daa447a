"""Options of commands that call a server: TLS and credential, as the arguments of `statecast.client.Client`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from statecast.client import InvalidArgument

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--tls/--no-tls", default=None, help="Encrypt the connection; by default if --ca or --cert is given."),
    click.option("--ca", type=_FILE,
                 help="PEM file with the certificates to trust; by default that of the variable STATECAST_CA, or else "
                 "gRPC's own list."),
    click.option("--cert", type=_FILE, help="PEM file with your certificate, if the server asks for one."),
    click.option("--key", type=_FILE, help="PEM file with the private key of --cert."),
    click.option("--server-name", help="Name in the server's certificate, if it is not the host of --target."),
    click.option("--api-key",
                 help="API key to send; by default that of the variable STATECAST_API_KEY. Prefer the variable: every "
                 "user of this machine can see the command line, as with ps."),
)  # fmt: skip

_ARGUMENTS = ("target", "tls", "ca", "cert", "key", "server_name", "api_key")


def client_options(command: F) -> F:
    """Add the options to a command. It gets them as keyword arguments, to pass on to a client; None if not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def refused(error: "InvalidArgument") -> click.ClickException:
    """Return the error of a command for an argument that the client refuses; it names the option."""
    option = "--" + error.field.replace("_", "-") if error.field in _ARGUMENTS else error.field
    return click.ClickException(option + error.message.removeprefix(error.field))
