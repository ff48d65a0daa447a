"""Viewers of the page, which read what the page is sent."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPMessage
from typing import Any
from urllib.parse import urlencode, urlsplit

from support import WAIT_SECONDS
from support.servers import ServerThread


class Looking:
    """Asks a server's page."""

    def __init__(self, server: ServerThread, key: str = "") -> None:
        place = urlsplit(server.metrics_url)
        self.host, self.port = place.hostname or "", place.port or 0
        self.address = f"http://{place.netloc}/page/"
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, HTTPMessage, bytes]:
        """Return the answer to a request; wait if there were too many."""
        while (answer := self.get_now(path, method, **headers))[0] == 429:
            time.sleep(0.1)
        return answer

    def get_now(self, path: str, method: str = "GET", **headers: str) -> tuple[int, HTTPMessage, bytes]:
        connection = HTTPConnection(self.host, self.port, timeout=WAIT_SECONDS)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=self.headers | named)
        response = connection.getresponse()
        answer = response.status, response.headers, response.read()
        connection.close()
        return answer

    def ask(self, path: str, **fields: object) -> Any:
        status, _, body = self.get(f"/page/api/{path}?{urlencode(fields)}")
        return json.loads(body) | {"status": status}

    @contextmanager
    def following(
        self, session_id: str, target: int = 0, context: ssl.SSLContext | None = None
    ) -> Iterator["Following"]:
        while " 429 " in (following := Following(self, session_id, target, context)).status:
            time.sleep(0.1)
        try:
            yield following
        finally:
            following.close()


class Following:
    """A viewer of a session; iterating gives the views."""

    def __init__(self, looking: Looking, session_id: str, target: int, context: ssl.SSLContext | None) -> None:
        self.connection = socket.create_connection((looking.host, looking.port), timeout=WAIT_SECONDS)
        if context:
            self.connection = context.wrap_socket(self.connection, server_hostname=looking.host)
        query = urlencode({"id": session_id, "target": target})
        headers = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **looking.headers}.items())
        self.connection.sendall(f"GET /page/api/session?{query} HTTP/1.1\r\n{headers}\r\n".encode())
        self._file = self.connection.makefile("rb")
        self.head = iter(self._file.readline, b"\r\n")
        self.status = next(self.head).decode().strip()
        self.fields = dict(line.decode().strip().split(": ", 1) for line in self.head)

    def events(self) -> Iterator[tuple[str, Any]]:
        """Yield each event's name and content, to the end of the stream."""
        assert " 200 " in self.status, self.status
        name = ""
        for line in self._file:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)

    def view(self) -> Any:
        """Return the next view."""
        name, content = next(self.events())
        assert name == "view", content
        return content

    def view_at(self, step: int) -> list[Any]:
        """Return the views up to the one at a step."""
        views = []
        for _, content in self.events():
            views.append(content)
            if content.get("step") == step:
                return views
        raise AssertionError(f"the stream has ended before step {step}")

    def close(self) -> None:
        self._file.close()
        self.connection.close()
