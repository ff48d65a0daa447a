"""Finds the method for a request's HTTP method and path, by the google.api.http annotations of the .proto files."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from google.api import annotations_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from statecast.service.errors import quoted
from statecast.service.rpc.methods import Malformed, Method
from statecast.service.transport.http_json.reading import field_name, fill, parse

VERBS = ("get", "post", "delete")
_VARIABLE = re.compile(r"\{(\w+)\}")
QUERY = "query"
"""The field that is named if the part after the question mark is wrong."""
MOST_PARAMETERS = 20


class NoRoute(Exception):
    """No method has this path; `allowed` are the HTTP methods of those that have it."""

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Route:
    """One method over HTTP.

    Attributes:
        verb: GET, POST or DELETE.
        template: Its path, as the annotation has it.
        suffix: The end of such paths after a colon, such as "forecast"; empty without one.
        pattern: Matches such paths; its groups are the fields in them, still encoded.
        has_body: True if the fields that are not in the path come in the body, False if in the query.
        method: The method.
        request: Type of its request.
        response: Type of its response.
    """

    verb: str
    template: str
    suffix: str
    pattern: re.Pattern[str]
    has_body: bool
    method: Method
    request: type[Message]
    response: type[Message]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request without its body: its method, the fields in its path, and its query."""

    route: Route
    variables: Mapping[str, str]
    query: bytes

    def decode(self, body: bytes) -> Message | DecodeError:
        """Return the method's request, or the error that says what is wrong with it."""
        try:
            message = self.route.request()
            fill(message, self._values(body))
            self._fill_variables(message)
        except Malformed as error:
            return error
        decoded: Message | DecodeError = self.route.method.decode(message.SerializeToString())
        return decoded

    def _values(self, body: bytes) -> Mapping[str, object]:
        if self.route.has_body:
            if self.query:
                raise Malformed(QUERY, "this path takes none; put its fields into the body")
            return parse(body)
        if body:
            raise Malformed("request", f"{self.route.verb} takes no body; put its fields into the query, after ?")
        return _nested(self.query)

    def _fill_variables(self, message: Message) -> None:
        for name, encoded in self.variables.items():
            value, other = _decoded(encoded, name), getattr(message, name)
            if other and other != value:
                raise Malformed(name, f"{quoted(other)} is not {quoted(value)} of the path; leave it out of the body")
            setattr(message, name, value)


class Routes:
    """The methods that have a path."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        """Find the annotations of these methods, which are named by their gRPC paths."""
        self._routes = tuple(route for path, method in methods.items() for route in _routes_of(path, method))
        self._suffixes = {route.suffix for route in self._routes}

    def find(self, verb: str, path: str, query: bytes) -> Asked:
        """Return what is asked for.

        Raises:
            NoRoute: if there is no such path, or it takes another HTTP method.
        """
        allowed = []
        suffix = path.rpartition(":")[2]
        if suffix not in self._suffixes:  # the colon, if there is one, belongs to a name
            suffix = ""
        for route in self._routes:
            match = route.pattern.fullmatch(path) if route.suffix == suffix else None
            if match and route.verb == verb:
                return Asked(route, match.groupdict(), query)
            if match:
                allowed.append(route.verb)
        known = ", ".join(f"{route.verb} {route.template}" for route in self._routes)
        raise NoRoute(f"there is no {quoted(verb)} {quoted(path)} here; there are: {known}", tuple(allowed))


def _routes_of(path: str, method: Method) -> Iterator[Route]:
    described = _description(path)
    rule = described.GetOptions().Extensions[annotations_pb2.http] if described else None
    if described is None or rule is None or not rule.WhichOneof("pattern"):
        return
    verb = rule.WhichOneof("pattern")
    if verb not in VERBS or rule.body not in ("", "*") or rule.additional_bindings or method.is_stream:
        raise ValueError(f"{path}: its google.api.http annotation has parts that are not implemented")
    request, response = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
    template = getattr(rule, verb)
    suffix = template.partition(":")[2]
    yield Route(verb.upper(), template, suffix, _pattern(template), rule.body == "*", method, request, response)


def _pattern(template: str) -> re.Pattern[str]:
    parts = enumerate(_VARIABLE.split(template))
    return re.compile("".join(f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in parts))


def _description(path: str) -> MethodDescriptor | None:
    service, _, name = path.removeprefix("/").partition("/")
    try:
        return descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return None


def _decoded(encoded: str, field: str) -> str:
    try:
        return unquote(encoded, errors="strict")
    except UnicodeDecodeError as error:
        raise Malformed(field, "is not UTF-8 in the path; encode it as UTF-8, then with percent signs") from error


def _nested(query: bytes) -> Mapping[str, object]:
    """Return the fields of a query as JSON has them; dots lead into messages."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query), errors="strict",
            max_num_fields=MOST_PARAMETERS,
        )  # fmt: skip
    except ValueError as error:
        raise Malformed(QUERY, "is not name=value, joined by & and encoded as UTF-8 with percent signs") from error
    fields: dict[str, object] = {}
    for name, value in pairs:
        *outer, last = name.split(".")
        within = fields
        for each in outer:
            inner = within.setdefault(each, {})
            if not isinstance(inner, dict):
                raise Malformed(field_name(name), "given twice in the query; leave one")
            within = inner
        if last in within:
            raise Malformed(field_name(name), "given twice in the query; leave one")
        within[last] = value
    return fields
