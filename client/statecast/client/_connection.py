"""How a client reaches its server: target, TLS and credential, for both clients and `statecast health`."""

import inspect
import os
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio

from . import _calls, _messages
from ._bearer import AsyncToken, check_secret
from ._target import Name, check_target, is_loopback
from ._tls import FilePath, Tls, channel_credentials, kind_that_may_not_encrypt
from .errors import invalid

API_KEY_VARIABLE = "STATECAST_API_KEY"

# Without these, gRPC would send a plaintext call through the proxy that a variable of the environment names. One of the
# variables, GRPC_ADDRESS_HTTP_PROXY, cannot be turned off, but it can be limited to an address that no server has.
_NO_PROXY: tuple[tuple[str, Any], ...] = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.address_http_proxy_enabled_addresses", "255.255.255.255"),
)
# The variables that gRPC reads, in this order.
_PROXY, _EXEMPT = ("grpc_proxy", "https_proxy", "http_proxy"), ("no_grpc_proxy", "no_proxy")
_SERVER_NAME = "grpc.ssl_target_name_override"


@dataclass(frozen=True)
class Connection:
    """Where a client connects to, and how; it holds no credential.

    Attributes:
        target: The server.
        tls: Credentials of the channel; None for an unencrypted one.
        options: Options of the channel.
    """

    target: str
    tls: grpc.ChannelCredentials | None
    options: tuple[tuple[str, Any], ...]

    def open(self, further_options: tuple[tuple[str, Any], ...] = ()) -> grpc.Channel:
        """Return a channel for the synchronous client."""
        options = [*self.options, *further_options]
        if self.tls is None:
            return grpc.insecure_channel(self.target, options)
        return grpc.secure_channel(self.target, self.tls, options)

    def open_async(self) -> grpc.aio.Channel:
        """Return a channel on the running event loop."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, list(self.options))
        return grpc.aio.secure_channel(self.target, self.tls, list(self.options))

    def at(self, address: str, name: Name | None) -> "Connection":
        """Return the connection to one address of this target, or of the name in it."""
        options = self.options
        if name is not None:
            options += (("grpc.enable_http_proxy", 0),)
            if _SERVER_NAME not in dict(options):  # the server's certificate has the name, not the address
                options += (("grpc.default_authority", name.authority),)
        return replace(self, target=address, options=options)

    def uses_proxy(self, host: str) -> bool:
        """Return True if gRPC connects to the host through the proxy that a variable of the environment names."""
        if "grpc.enable_http_proxy" in dict(self.options) or not any(map(os.environ.get, _PROXY)):
            return False
        exempt = next(filter(None, map(os.environ.get, _EXEMPT)), "")
        return not any(host.endswith(each.strip()) for each in exempt.split(",") if each.strip())


def resolve_credential(api_key: str | None, token: AsyncToken | None, *, may_wait: bool) -> tuple[str | None, str]:
    """Return the API key, and the argument or variable that gave the credential; both None and "" without one.

    Args:
        api_key: The API key; None for that of the environment, unless there is a token.
        token: Function that returns a token.
        may_wait: True if the function may be asynchronous.

    Raises:
        InvalidArgument: There are two credentials, or one is not valid.
    """
    if token is not None:
        if api_key is not None:
            raise invalid("token", "api_key is given as well; leave out one of the two")
        if not callable(token):
            raise invalid("token", f"expected a function that returns a text, got {type(token).__name__}")
        if not may_wait and inspect.iscoroutinefunction(token):
            raise invalid("token", "an asynchronous function needs an AsyncClient; give a plain one")
        return None, "token"
    field = "api_key" if api_key is not None else API_KEY_VARIABLE
    api_key = api_key if api_key is not None else os.environ.get(API_KEY_VARIABLE) or None
    return (None, "") if api_key is None else (check_secret(field, api_key), field)


def resolve_connection(
    target: str,
    *,
    tls: Tls,
    ca: FilePath | None,
    cert: FilePath | None,
    key: FilePath | None,
    server_name: str | None,
    credential: str,
) -> Connection:
    """Return the connection; the arguments are those of `Client`.

    Args:
        target: The server.
        tls: True, False or channel credentials; None to let the other arguments say.
        ca: File with the certificates to trust.
        cert: File with the client's certificates.
        key: File with the client's key.
        server_name: Name that the server's certificate must have.
        credential: The argument or variable that gave the credential; empty without one.

    Raises:
        InvalidArgument: An argument is wrong, or the credential would be sent unencrypted over a network.
    """
    target, encryption = check_target(target), channel_credentials(tls, ca, cert, key)
    options = _calls.CHANNEL_OPTIONS
    if server_name is not None:
        if not _messages.text("server_name", server_name):
            raise invalid("server_name", "is empty; give the name in the server's certificate, or leave it out")
        if encryption is None:
            raise invalid("server_name", "needs TLS; set tls or ca as well")
        options += ((_SERVER_NAME, server_name),)
    weak = None if encryption is None else kind_that_may_not_encrypt(encryption)
    if credential and (encryption is None or weak):
        _check_that_it_stays_here(credential, target, weak)
        options += _NO_PROXY
    return Connection(target, encryption, options)


def _check_that_it_stays_here(credential: str, target: str, kind: str | None) -> None:
    """Refuse a credential that could leave this machine unencrypted; `kind` is that of ready-made credentials."""
    if is_loopback(target):
        return
    elsewhere = "or connect to localhost, 127.0.0.1, [::1] or a Unix socket"
    if kind is None:
        fix = f"turn on TLS with tls or ca, {elsewhere}"
        raise invalid(credential, f"is not sent unencrypted to {target!r}; {fix}")
    fix = f"give grpc.ssl_channel_credentials, also as the fallback of xDS, {elsewhere}"
    raise invalid("tls", f"{kind} may not encrypt, so {credential} is not sent to {target!r}; {fix}")
