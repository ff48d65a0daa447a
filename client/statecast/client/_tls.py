"""TLS: channel credentials from the arguments of a client."""

import os
import ssl
from pathlib import Path
from typing import TypeAlias

import grpc

from . import _messages
from .errors import invalid

CA_VARIABLE = "STATECAST_CA"

FilePath: TypeAlias = str | os.PathLike[str]
Tls: TypeAlias = bool | grpc.ChannelCredentials | None

_INSECURE = "InsecureChannelCredentials"
_ENCRYPTING = {"SSLChannelCredentials", "ALTSChannelCredentials", "ComputeEngineChannelCredentials"}
"""Kinds of channel credentials that always encrypt, by the names of gRPC's classes."""


def channel_credentials(
    tls: Tls, ca: FilePath | None, cert: FilePath | None, key: FilePath | None
) -> grpc.ChannelCredentials | None:
    """Return the credentials of an encrypted channel; None for an unencrypted one.

    Raises:
        InvalidArgument: The arguments contradict each other, or a file cannot be used.
    """
    if tls is not None and not isinstance(tls, (bool, grpc.ChannelCredentials)):
        raise invalid("tls", f"expected True, False or grpc.ChannelCredentials, got {type(tls).__name__}")
    given = [name for name, path in (("ca", ca), ("cert", cert), ("key", key)) if path is not None]
    if isinstance(tls, grpc.ChannelCredentials):
        if given:
            raise invalid(given[0], "grpc.ChannelCredentials say it all; leave it out, or set tls to True")
        if type(getattr(tls, "_credentials", None)).__name__ == _INSECURE:
            raise invalid("tls", "these credentials do not encrypt; set it to False for a plaintext connection")
        return tls
    if tls is False:
        if given:
            raise invalid(given[0], "needs TLS, which tls turns off; leave out one of the two")
        return None
    if (cert is None) != (key is None):
        one, other = ("key", "cert") if cert is None else ("cert", "key")
        raise invalid(other, f"is missing; mutual TLS needs {one} and {other}")
    field = "ca" if ca is not None else CA_VARIABLE
    ca = ca if ca is not None else os.environ.get(CA_VARIABLE) or None
    if not (tls or ca is not None or cert is not None):
        return None
    roots = None if ca is None else _roots(field, ca)
    chain, secret = (None, None) if cert is None or key is None else _pair(cert, key)
    return grpc.ssl_channel_credentials(roots, secret, chain)


def kind_that_may_not_encrypt(credentials: grpc.ChannelCredentials) -> str | None:
    """Return the kind of these credentials if they do not always encrypt, else None.

    gRPC's local credentials only check that the connection stays on this machine. Those of xDS are as good as their
    fallback, which applies unless the control plane says otherwise. A kind that is not known here may not encrypt.
    """
    inner = getattr(credentials, "_credentials", None)
    # Composite credentials wrap other ones, and those of xDS have a fallback.
    while wrapped := getattr(inner, "_channel_credentials", None) or getattr(inner, "_fallback_credentials", None):
        inner = wrapped
    kind = type(inner).__name__
    return None if kind in _ENCRYPTING else kind


def _roots(field: str, path: FilePath) -> bytes:
    content = _read(field, path, "CERTIFICATE")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise invalid(field, f"{path} has a certificate that cannot be read: {_cause(error)}") from None
    return content


def _pair(cert: FilePath, key: FilePath) -> tuple[bytes, bytes]:
    """Return the contents of both files; they must belong together."""
    chain, secret = _read("cert", cert, "CERTIFICATE"), _read("key", key, "PRIVATE KEY")
    if b"ENCRYPTED" in secret:
        raise invalid("key", f"{key} is protected by a password; decrypt it, as with: openssl pkey -in {key}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")  # which keys are long enough is for gRPC and the server to say
    try:
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        if getattr(error, "reason", "") in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise invalid("key", f"{key} does not belong to the certificate {cert}; give the key made for it") from None
        raise invalid("cert", f"{cert} and its key {key} cannot be read: {_cause(error)}") from None
    return chain, secret


def _read(field: str, path: FilePath, kind: str) -> bytes:
    if not isinstance(path, (str, os.PathLike)):
        raise invalid(field, f"expected the path of a file, got {type(path).__name__}")
    if isinstance(path, str) and "-----BEGIN" in _messages.text(field, path):
        raise invalid(field, "expected the path of a file, got PEM text; write it into a file")
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise invalid(field, f"{path} cannot be read: {_cause(error)}; give the path of a PEM file") from None
    if b"-----BEGIN " not in content or f"{kind}-----".encode() not in content:
        raise invalid(field, f"{path} has no PEM block 'BEGIN {kind}'; give a PEM file")
    return content


def _cause(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
