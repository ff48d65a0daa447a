"""The connection between the process that an operator sees and Envoy, with the server inside it: lines of JSON.

The operator's process sends the settings, then STOP. The server answers LOADED, and FAILED if it cannot start. When the
connection ends, each side knows that the other has gone.
"""

import asyncio
import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_type_hints

from statecast.service.settings import Settings

VARIABLE = "STATECAST_CONTROL_FD"
"""Environment variable with the file descriptor that the server inside Envoy talks over."""
STOP = "stop"
LOADED = "loaded"
FAILED = "failed"


class Control:
    """One end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> "Control":
        """Talk over a connected socket."""
        return cls(*await asyncio.open_connection(sock=end))

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message; None if the other side has gone."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        message: dict[str, Any] | None = json.loads(line) if line else None
        return message

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message, unless the other side has gone."""
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
        except ConnectionError:
            pass

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def inherited() -> socket.socket:
    """Return the socket that the operator's process has passed on."""
    end = socket.socket(fileno=int(os.environ.pop(VARIABLE)))
    end.set_inheritable(False)
    return end


def to_json(settings: Settings) -> dict[str, Any]:
    """Return settings as JSON has them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}


def from_json(values: dict[str, Any]) -> Settings:
    """Return the settings that `to_json` was given."""
    paths = {name for name, hint in get_type_hints(Settings).items() if hint == Path | None}
    typed: dict[str, Any] = {
        name: Path(value) if name in paths and value is not None else value for name, value in values.items()
    }
    return Settings(**typed)
