"""Answers the page's requests: its files to anybody, all else to whom the credential admits."""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from statecast.model import bundled_models
from statecast.service.access.principal import Principal
from statecast.service.access.quotas import Bucket
from statecast.service.errors import (
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServiceError,
    Unauthenticated,
    quoted,
)
from statecast.service.metrics_endpoint import Answer, Asked
from statecast.service.models.registry import Model, Registry
from statecast.service.page import events
from statecast.service.page.directory import Directory
from statecast.service.page.static_files import SAFETY, read_files
from statecast.service.page.watcher import Viewer, Watcher
from statecast.service.rpc.fields import check_length, to_model_name, to_session_id
from statecast.service.session_key import session_key
from statecast.v1.reasons import Reason

PATH = "/page/"
CARD = "README.md"
LARGEST_CARD = 200_000
REQUESTS_A_SECOND = 20.0
"""Requests of one tenant, on average; a second's worth may come at once."""
TENANTS = 1000
LARGEST_PAGE, LARGEST_OFFSET = 100, 1_000_000
MOST_TARGETS = 100_000
HEARTBEAT_SECONDS = 10.0
"""Longest silence of a stream, so that both ends notice if the other has gone."""
LOOK_SECONDS = 1.0
"""How often a silent stream is checked for a viewer who has left."""
STATUS_OF_ERROR: Mapping[type[ServiceError], HTTPStatus] = {
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    PermissionDenied: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
}
"""All others are 503: Redis or a model cannot be used now."""

Admit = Callable[[str | None, str], Principal]
"""Returns who shows this header `authorization`, from this address; raises Unauthenticated or Overloaded."""
Fields = Mapping[str, str]


class Site:
    """The page below `PATH` of an HTTP server. Answers in any thread."""

    def __init__(
        self,
        admit: Admit,
        watcher: Watcher,
        directory: Directory,
        registry: Registry,
        version: str,
        models: Path | None = None,
        own_name: str | None = None,
    ) -> None:
        """Serve the page.

        Args:
            admit: Admits a viewer.
            watcher: Watches sessions.
            directory: Lists sessions.
            registry: The models.
            version: The server's version.
            models: The folder of models, whose cards are shown.
            own_name: Where there are no credentials, the server's name besides localhost; None where there are.
        """
        self._admit, self._watcher, self._directory = admit, watcher, directory
        self._registry, self._version, self._models = registry, version, models
        self._own_name = own_name
        self._files = read_files()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._counting = threading.Lock()
        self._routes: Mapping[str, Callable[[Fields, Principal], Any]] = {
            "server": self._server,
            "sessions": self._sessions,
            "model": self._model,
        }

    def answer(self, asked: Asked) -> Answer | None:
        """Return the answer; None if the page has no such path."""
        path, _, query = asked.target.partition("?")
        if path == PATH.rstrip("/"):
            return Answer(HTTPStatus.PERMANENT_REDIRECT, b"", SAFETY | {"Location": PATH})
        if not path.startswith(PATH):
            return None
        if refusal := self._refusal(asked):
            return refusal
        name = path.removeprefix(PATH)
        if file := self._files.get(name):
            is_known = asked.headers.get("If-None-Match") == file.headers["ETag"]
            return file._replace(status=HTTPStatus.NOT_MODIFIED, body=b"") if is_known else file
        if not name.startswith("api/"):
            return _text(HTTPStatus.NOT_FOUND, "The page has no such file.")
        try:
            return self._answer_api(name.removeprefix("api/"), query, asked)
        except ServiceError as error:
            return _error(error)

    def _refusal(self, asked: Asked) -> Answer | None:
        """Refuse what another site has sent, or made the browser send by pointing its own name at this server."""
        if asked.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            is_visit = asked.headers.get("Sec-Fetch-Mode") == "navigate" and "/api/" not in asked.target
            return None if is_visit else _text(HTTPStatus.FORBIDDEN, "Open the page itself; other sites may not ask.")
        host = asked.headers.get("Host", "")
        if self._own_name is None or _is_own(host, self._own_name):
            return None
        return _text(
            HTTPStatus.MISDIRECTED_REQUEST,
            "Without credentials, the page answers only under localhost, an IP address or the name in metrics-host.",
        )

    def _answer_api(self, name: str, query: str, asked: Asked) -> Answer:
        principal = self._admit(asked.headers.get("Authorization"), asked.peer)
        self._take(principal.tenant)
        fields = _fields(query)
        if name == "session":
            return self._watch(fields, principal)
        if name not in self._routes:
            return _text(HTTPStatus.NOT_FOUND, "The page has no such path.")
        return _json(HTTPStatus.OK, self._routes[name](fields, principal))

    def _take(self, tenant: str) -> None:
        """Count a request of the tenant, and refuse it if there are too many."""
        now = time.monotonic()
        with self._counting:
            bucket = self._buckets.setdefault(tenant, Bucket(REQUESTS_A_SECOND, now))
            self._buckets.move_to_end(tenant)
            if len(self._buckets) > TENANTS:
                self._buckets.popitem(last=False)
            if wait := bucket.wait_seconds(1, now):
                raise Overloaded(
                    f"the page takes {REQUESTS_A_SECOND:g} requests a second of a tenant", Reason.QUOTA_EXCEEDED, wait
                )
            bucket.take(1)

    def _server(self, _: Fields, principal: Principal) -> Any:
        caller = {"tenant": principal.tenant, "role": principal.role.name.lower()}
        return events.server(self._version, self._registry, self._registry.default, caller)

    def _sessions(self, fields: Fields, principal: Principal) -> Any:
        prefix = fields.get("prefix", "")
        check_length(prefix, 256, "prefix")
        offset, size = _whole(fields, "offset", 0, LARGEST_OFFSET), _whole(fields, "size", 50, LARGEST_PAGE)
        page = self._directory.page(principal.tenant, prefix, offset, size)
        return events.listing(page, prefix, offset, self._registry)

    def _model(self, fields: Fields, _: Principal) -> Any:
        name, version = (to_model_name(fields.get(field, ""), field) for field in ("name", "version"))
        model = self._registry.find(name, version) or self._registry.get(name, version)
        return events.model(model, self._card(model), model is self._registry.get("", ""))

    def _card(self, model: Model) -> str:
        """Return the card in the model's folder; empty without one. The names are those of a loaded model."""
        for folder in filter(None, (self._models, bundled_models())):
            try:
                with (folder / model.config.name / model.config.version / CARD).open("rb") as file:
                    return file.read(LARGEST_CARD).decode(errors="replace")
            except OSError:
                continue
        return ""

    def _watch(self, fields: Fields, principal: Principal) -> Answer:
        session_id = to_session_id(fields.get("id", ""), "id")
        target = _whole(fields, "target", 0, MOST_TARGETS)
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        return Answer(HTTPStatus.OK, self._stream(session_id, target, principal), SAFETY | headers)

    def _stream(self, session_id: str, target: int, principal: Principal) -> Generator[bytes, None, None]:
        """Yield the events of a viewer; if there is no room for one, the reason."""
        try:
            viewer = self._watcher.enter(session_key(principal.tenant, session_id), principal)
        except Overloaded as error:
            yield _last(error)
            return
        try:
            yield from self._events(session_id, target, viewer)
        except ServiceError as error:
            yield _last(error)
        finally:
            self._watcher.leave(viewer)

    def _events(self, session_id: str, target: int, viewer: Viewer) -> Iterator[bytes]:
        """Yield events as the session moves on, and nothing now and then, so that a viewer who left is noticed."""
        serial, silent, seen = 0, 0.0, None
        while viewer.refusal is None and not self._watcher.is_stopped:
            view, serial = self._watcher.wait(viewer, serial, LOOK_SECONDS)
            if view is None:
                silent += LOOK_SECONDS
                yield b": still here\n\n" if silent >= HEARTBEAT_SECONDS else b""
                silent %= HEARTBEAT_SECONDS
                continue
            events.check_target(view, target)
            encode = partial(events.view_event, session_id, view, target, seen)
            yield self._watcher.encoded(viewer.watch, view, (target, seen), encode)
            silent, seen = 0.0, (view.epoch, view.points.last) if view.points else seen
        if viewer.refusal:
            raise viewer.refusal


def _last(error: ServiceError) -> bytes:
    """Return the event that ends a stream with an error."""
    return b"event: refused\ndata: " + events.to_json(events.error(error.message, error.reason)) + b"\n\n"


def _error(error: ServiceError) -> Answer:
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, round(error.retry_after_seconds)))
    status = STATUS_OF_ERROR.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE)
    return _json(status, events.error(error.message, error.reason), headers)


def _json(status: HTTPStatus, content: Any, headers: Mapping[str, str] | None = None) -> Answer:
    kind = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Answer(status, events.to_json(content), SAFETY | kind | dict(headers or {}))


def _text(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode(), SAFETY | {"Cache-Control": "no-store"})


def _fields(query: str) -> Fields:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=8, errors="strict"))
    except ValueError as error:
        raise InvalidRequest("query", f"not readable: {error}") from error


def _whole(fields: Fields, name: str, usual: int, most: int) -> int:
    text = fields.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
        raise InvalidRequest(name, f"{quoted(text)} is not a whole number from 0 to {most}")
    return int(text)


def _is_own(host: str, own_name: str) -> bool:
    """Return True if a browser that asks for this host cannot have been led here by another site's name."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() in ("localhost", own_name.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
