"""The files from which Envoy reads its certificates; it reads a file again when another one takes its place.

On Linux, the private key itself is in no file system: it lies in memory that Envoy's process has open, so nothing of it
is left however the processes end.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from statecast.service.access.certificates import Certificates

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
SERVER, CLIENTS = "server", "clients"
NODE = {"id": "statecast", "cluster": "statecast"}
"""Envoy asks for a name of its own where it reads secrets from files."""


class Secrets:
    """The files in a folder, and the private key. The process that reads them needs the same file descriptors."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.descriptors: list[int] = []

    def write(self, certificates: Certificates) -> None:
        """Write the files, or replace them."""
        chain = {"certificate_chain": _inline(certificates.chain), "private_key": self._private(certificates.key)}
        _write(self._folder, SERVER, {"tls_certificate": chain})
        if certificates.client_ca is not None:
            _write(self._folder, CLIENTS, {"validation_context": {"trusted_ca": _inline(certificates.client_ca)}})

    def close(self) -> None:
        """Forget the private key."""
        while self.descriptors:
            os.close(self.descriptors.pop())

    def _private(self, key: bytes) -> dict[str, str]:
        """Return where Envoy finds the key. The one before stays open, for Envoy may not have read the new file yet."""
        if sys.platform != "linux":
            return _inline(key)
        while len(self.descriptors) > 1:
            os.close(self.descriptors.pop(0))
        self.descriptors.append(os.memfd_create("statecast-tls-key"))
        os.write(self.descriptors[-1], key)
        return {"filename": f"/dev/fd/{self.descriptors[-1]}"}  # Envoy reads nothing below /proc


def transport_socket(folder: Path, *, asks_clients: bool) -> dict[str, Any]:
    """Return the part of a listener that makes it speak TLS with the certificates in these files."""
    context: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [_from_file(folder, SERVER)],
    }
    if asks_clients:
        context["validation_context_sds_secret_config"] = _from_file(folder, CLIENTS)
    config = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "common_tls_context": context,
        "require_client_certificate": asks_clients,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode()}


def _from_file(folder: Path, name: str) -> dict[str, Any]:
    source = {"path_config_source": {"path": str(folder / f"{name}.json")}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def _write(folder: Path, name: str, secret: dict[str, Any]) -> None:
    content = {"resources": [{"@type": f"{_TLS}.Secret", "name": name, **secret}]}
    unfinished = folder / f".{name}"
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
    unfinished.replace(folder / f"{name}.json")
