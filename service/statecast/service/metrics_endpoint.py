"""The HTTP server of /metrics, of /livez and /readyz, which say how the process does, and of the page to look at."""

import logging
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, make_wsgi_app

from statecast.service.access.certificates import Certificates, server_context
from statecast.service.errors import StartupError
from statecast.service.transport.place import Place, resolve

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
"""Most connections at once; one more ends the one that has been silent for longest."""
REQUEST_SECONDS = 10.0
"""Longest silence in a TLS handshake, and of a client that has begun a request or takes an answer."""
IDLE_SECONDS = 90.0
"""Longest silence between two requests of a connection; most scrapers come every 15 to 60 s."""
STOP_POLL_SECONDS = 0.1
"""Longest time until a stop is noticed; also the pause after a connection could not be accepted."""

TEXT = "text/plain; charset=utf-8"
_METRICS = ("/metrics", "/")


class Asked(NamedTuple):
    """A request: its path with the query, its headers, and the address of its connection, as gRPC names one."""

    target: str
    headers: Message
    peer: str


class Answer(NamedTuple):
    """An answer to send. Its length is added, and its type if `headers` has none: text.

    A body that is a generator is sent as it comes, for as long as it comes; when it yields nothing, a client that has
    gone is noticed.
    """

    status: HTTPStatus
    body: bytes | Generator[bytes, None, None]
    headers: Mapping[str, str] = {}


Site = Callable[[Asked], Answer | None]
"""Answers the requests that it knows."""


class MetricsEndpoint:
    """Serves a registry in daemon threads, over HTTP or HTTPS."""

    def __init__(
        self,
        registry: CollectorRegistry,
        host: str,
        port: int,
        certificates: Certificates | None = None,
        may_read: Callable[[str | None], bool] | None = None,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare to serve; nothing listens before `start`.

        Args:
            registry: The metrics.
            host: The address to listen on.
            port: The port; 0 for a free one.
            certificates: Those to serve HTTPS with; None for HTTP. No client certificate is asked for.
            may_read: Takes the value of a scrape's Authorization header, or None; False refuses the scrape.
            is_ready: Returns what /readyz reports.

        Both functions are called in the endpoint's threads.
        """
        self.port = port
        self._host = host
        self._app = make_wsgi_app(registry)
        self._may_read, self._is_ready = may_read, is_ready
        self._site: Site = lambda asked: None
        self._context = server_context(certificates) if certificates else None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen and serve; from now on `port` is the port.

        Raises:
            StartupError: if the server cannot listen there.
        """
        place = Place(self._host, self.port)
        hint = "choose another --metrics-port or --metrics-host"
        try:
            server = _Server(place, self._context, self._answer)
        except OSError as error:
            raise StartupError(f"cannot serve metrics on {place}: {error.strerror or error}; {hint}") from error
        except StartupError as error:
            raise StartupError(f"cannot serve metrics on {place}: {error}; {hint}") from error
        self.port = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(STOP_POLL_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end idle connections; answers under way are still sent."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.end_connections()
        self._server = self._thread = None

    def show(self, site: Site) -> None:
        """Serve this site as well, in the endpoint's threads."""
        self._site = site

    def renew(self, certificates: Certificates) -> None:
        """Use these certificates for new connections; open ones stay as they are.

        Raises:
            ssl.SSLError: if OpenSSL refuses the certificates.
        """
        self._context = server_context(certificates)
        if self._server is not None:
            self._server.context = self._context

    def _answer(self, asked: Asked) -> Answer:
        path, _, query = asked.target.partition("?")
        if path in _METRICS:
            return self._answer_metrics(query, asked.headers)
        if path == "/livez":
            return Answer(HTTPStatus.OK, b"ok\n")
        if path == "/readyz":
            if self._is_ready():
                return Answer(HTTPStatus.OK, b"ok\n")
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n")
        if answer := self._site(asked):
            return answer
        return Answer(HTTPStatus.NOT_FOUND, b"This server has the paths /metrics, /livez and /readyz.\n")

    def _answer_metrics(self, query: str, headers: Message) -> Answer:
        if self._may_read is not None and not self._may_read(headers.get("Authorization")):
            text = b"Metrics need a credential: send the header Authorization: Bearer, with an API key or a token.\n"
            return Answer(HTTPStatus.UNAUTHORIZED, text, {"WWW-Authenticate": "Bearer"})
        environment = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": query,
            "HTTP_ACCEPT": headers.get("Accept"),
            "HTTP_ACCEPT_ENCODING": headers.get("Accept-Encoding"),
        }
        sent: dict[str, str] = {}
        body = b"".join(self._app(environment, lambda _, pairs: sent.update(pairs)))
        return Answer(HTTPStatus.OK, body, sent)


class _Server(ThreadingMixIn, TCPServer):
    """Accepts connections; each has its own thread, in which the TLS handshake takes place as well."""

    daemon_threads = True
    allow_reuse_address = True  # connections of an earlier server in TIME_WAIT must not block the port
    allow_reuse_port = False  # two servers must not share it
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, place: Place, context: ssl.SSLContext | None, answer: Callable[[Asked], Answer]) -> None:
        self.context = context
        self.answer = answer
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, None] = {}
        """Open connections; the one whose last request is oldest comes first."""
        self.address_family, where = resolve(place)
        super().__init__(where, _Request)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, without its handshake."""
        try:
            connection, client = self.socket.accept()
        except OSError:
            time.sleep(STOP_POLL_SECONDS)  # there may be no file descriptors left
            raise
        connection.settimeout(REQUEST_SECONDS)
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, client

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer the connection in its own thread; if there is no room, end another."""
        with self._lock:
            if len(self._connections) >= MAX_CONNECTIONS:
                oldest = next(iter(self._connections))
                del self._connections[oldest]
                _end(oldest, socket.SHUT_RDWR)
            self._connections[request] = None
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        """Forget and close a connection."""
        with self._lock:
            self._connections.pop(request, None)
            super().close_request(request)

    def note_request(self, connection: socket.socket) -> None:
        """Record that a request has come over the connection."""
        with self._lock:
            if connection in self._connections:
                del self._connections[connection]
                self._connections[connection] = None

    def end_connections(self) -> None:
        """Read no more from the open connections."""
        with self._lock:
            for connection in self._connections:
                _end(connection, socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a bug; what clients do wrong is handled elsewhere."""
        log.exception("a connection to the metrics port has failed")


def _end(connection: socket.socket, how: int) -> None:
    """Wake the connection's thread."""
    with suppress(OSError):  # the client has ended it
        socket.socket.shutdown(connection, how)  # that of SSLSocket would go on in plain text


class _Request(BaseHTTPRequestHandler):
    """Handles a connection's requests, one after the other."""

    server: _Server
    protocol_version = "HTTP/1.1"  # which keeps connections

    def handle(self) -> None:
        """Answer until the client or a timeout ends the connection; the TLS handshake comes first."""
        with suppress(OSError):  # the client has gone, is too slow, or does not speak TLS
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
            super().handle()

    def handle_one_request(self) -> None:
        """Answer one request, and wait longer for the next."""
        super().handle_one_request()
        self.connection.settimeout(IDLE_SECONDS)

    def parse_request(self) -> bool:
        """Read the headers, whose first line has come."""
        self.connection.settimeout(REQUEST_SECONDS)
        self.server.note_request(self.connection)
        return super().parse_request()

    def do_GET(self) -> None:
        """Answer GET."""
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self._skip_body()
        try:
            answer = self.server.answer(Asked(self.path, self.headers, self._peer()))
        except TimeoutError:  # the event loop does not say who may read
            log.warning("%s could not be answered: the server is starting or overloaded", self.path)
            self.close_connection = True
            text = b"The server is starting or overloaded; try again.\n"
            answer = Answer(HTTPStatus.SERVICE_UNAVAILABLE, text)
        except Exception:
            log.exception("%s could not be answered", self.path)
            self.close_connection = True
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"The server's log has the reason.\n")
        self._send(answer)

    do_HEAD = do_GET  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request in plain text; the base class calls this for methods without a do_ function, too."""
        self.close_connection = True
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:
            self._skip_body()
            self._send(Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"Use GET or HEAD.\n", {"Allow": "GET, HEAD"}))
        else:
            self._send(Answer(status, f"{status.description or status.phrase}.\n".encode()))

    def _skip_body(self) -> None:
        """Read a short body, so that the client gets the answer, and close afterwards: it may not be the whole."""
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if length.isdecimal() and len(length) < 6:
            self.rfile.read(int(length))

    def _peer(self) -> str:
        """Return the address of the connection."""
        host, port = self.client_address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        headers = {"Content-Type": TEXT, **answer.headers}
        if not isinstance(answer.body, bytes):
            self.close_connection = True  # which tells the client where the body ends
        elif answer.status is not HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = str(len(answer.body))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(answer.body, bytes):
            self.wfile.write(answer.body)
        else:
            self._stream(answer.body)

    def _stream(self, body: Generator[bytes, None, None]) -> None:
        """Send a body as it comes, until it ends or the client has gone; one that does not read it counts as gone."""
        with closing(body):
            for part in body:
                if part:
                    self.wfile.write(part)
                elif self._has_left():
                    return

    def _has_left(self) -> bool:
        """Return True if the client has ended the connection; one that sends more while it gets a body has, too."""
        readable = select.poll()
        readable.register(self.connection, select.POLLIN)
        return bool(readable.poll(0))

    def version_string(self) -> str:
        """Return the Server header."""
        return "statecast"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: clients come every few seconds."""
