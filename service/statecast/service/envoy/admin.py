"""Envoy's admin interface, over its unix socket."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from statecast.service.envoy.configuration import LISTENER

POLL_SECONDS, PATIENCE_SECONDS = 0.02, 2.0


class Admin:
    """Envoy's admin interface at a unix socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def port(self) -> int:
        """Wait until Envoy accepts connections; return the port."""
        while True:
            try:
                if (await self._request("GET", "/ready")).startswith(b"LIVE"):
                    listeners = json.loads(await self._request("GET", "/listeners?format=json"))
                    (found,) = (each for each in listeners["listener_statuses"] if each["name"] == LISTENER)
                    return int(found["local_address"]["socket_address"]["port_value"])
            except (OSError, ValueError, asyncio.IncompleteReadError):
                pass  # not yet
            await asyncio.sleep(POLL_SECONDS)

    async def drain(self) -> None:
        """Tell clients to connect elsewhere, and close the listener."""
        await self._tell("/drain_listeners?graceful&skip_exit")

    async def quit(self) -> None:
        """End the process."""
        await self._tell("/quitquitquit")

    def collect(self) -> Iterator[Metric]:
        """Yield Envoy's statistics, as a collector of prometheus_client does, in any thread; none while Envoy ends."""
        with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(str(self._socket))
            connection.sendall(b"GET /stats/prometheus?usedonly HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            if b"chunked" in head:
                body = _joined(body)
            yield from text_string_to_metric_families(body.decode())

    async def _tell(self, path: str) -> None:
        """Ask for something that happens by itself if Envoy is already ending."""
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._request("POST", path)

    async def _request(self, method: str, path: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            headers: dict[str, Any] = dict(
                line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line
            )
            if "content-length" in headers:
                return await reader.readexactly(int(headers["content-length"]))
            return _joined(await reader.read())
        finally:
            writer.close()


def _joined(body: bytes) -> bytes:
    """Return a body in chunks as one."""
    parts, at = [], 0
    while at < len(body):
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)
