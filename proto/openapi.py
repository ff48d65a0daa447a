"""Writes docs/openapi.json: the HTTP/JSON calls, from the .proto files' annotations and comments."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from google.rpc.code_pb2 import Code

HERE = Path(__file__).parent
Schema = dict[str, Any]

MESSAGE, SERVICE, FIELD, METHOD = 4, 6, 2, 2
"""Numbers of these parts in a descriptor, which lead to their comments."""
INFO: Schema = {
    "title": "Statecast",
    "version": "v1",
    "description": "Forecasts with streaming state. docs/http.md explains the paths, docs/api.md the errors.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
NUMBER: Schema = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
LONG: Schema = {"type": "string", "pattern": "^[0-9]{1,20}$"}
SCALARS: dict[int, Schema] = {
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_DOUBLE: NUMBER,
    FieldDescriptorProto.TYPE_FLOAT: NUMBER,
    FieldDescriptorProto.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer"},
    FieldDescriptorProto.TYPE_UINT64: LONG,
    FieldDescriptorProto.TYPE_FIXED64: LONG,
}
WELL_KNOWN: dict[str, Schema] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["2.5s"]},
    ".google.protobuf.Any": {
        "type": "object",
        "description": "A detail of an error, by its type.",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
    },
}
HTTP_ERRORS = {
    "400": (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION),
    "401": (Code.UNAUTHENTICATED,),
    "403": (Code.PERMISSION_DENIED,),
    "404": (Code.NOT_FOUND,),
    "409": (Code.ABORTED, Code.ALREADY_EXISTS),
    "413": (Code.RESOURCE_EXHAUSTED,),
    "415": (Code.INVALID_ARGUMENT,),
    "429": (Code.RESOURCE_EXHAUSTED,),
    "500": (Code.INTERNAL,),
    "503": (Code.UNAVAILABLE,),
    "504": (Code.DEADLINE_EXCEEDED,),
}
"""Statuses of errors over HTTP, and the codes that they stand for."""


class Generator:
    """Collects the schemas of the messages that the calls need."""

    def __init__(self, files: FileDescriptorSet) -> None:
        self._messages: dict[str, tuple[DescriptorProto, str]] = {}
        self._schemas: dict[str, Schema] = {}
        self._comments: dict[str, str] = {}
        self._files = files.file
        for file in files.file:
            self._note(file)

    def document(self) -> Schema:
        """Return the OpenAPI document."""
        paths: dict[str, dict[str, Schema]] = {}
        for file in self._files:
            for service in file.service:
                for method in service.method:
                    for verb, path, has_body in rules_of(method):
                        name = f".{file.package}.{service.name}.{method.name}"
                        operation = self._operation(name, service.name, method, path, has_body)
                        paths.setdefault(path, {})[verb] = operation
        return {
            "openapi": "3.1.0",
            "info": INFO,
            "servers": [{"url": "http://localhost:50051"}],
            "security": [{}, {"bearer": []}, {"certificate": []}],
            "paths": paths,
            "components": {
                "schemas": dict(sorted(self._schemas.items())),
                "responses": {number: self._error(codes) for number, codes in HTTP_ERRORS.items()},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a token."},
                    "certificate": {"type": "mutualTLS"},
                },
            },
        }

    def _operation(self, name: str, service: str, method: MethodDescriptorProto, path: str, has_body: bool) -> Schema:
        message, _ = self._messages[method.input_type]
        in_path = re.findall(r"\{(\w+)\}", path)
        others = [field for field in message.field if field.name not in in_path]
        parameters = [
            {**self._parameter(method.input_type, field), "in": "path", "required": True}
            for field in message.field
            if field.name in in_path
        ]
        operation: Schema = {
            "operationId": method.name,
            "tags": [service],
            "description": self._comments[name],
            "parameters": parameters if has_body else [*parameters, *self._query(method.input_type, others)],
        }
        if has_body:
            schema = self._reference(method.input_type)
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        answer = {"content": {"application/json": {"schema": self._reference(method.output_type, is_response=True)}}}
        operation["responses"] = {
            "200": {"description": self._comments[method.output_type], **answer},
            **{number: {"$ref": f"#/components/responses/{number}"} for number in HTTP_ERRORS},
        }
        return operation

    def _error(self, codes: tuple[int, ...]) -> Schema:
        names = " or ".join(Code.Name(code) for code in codes)
        schema = self._reference(".google.rpc.Status", is_response=True)
        return {"description": f"{names}.", "content": {"application/json": {"schema": schema}}}

    def _query(self, message: str, fields: list[FieldDescriptorProto], prefix: str = "") -> Iterator[Schema]:
        for field in fields:
            if field.type == FieldDescriptorProto.TYPE_MESSAGE and field.type_name not in WELL_KNOWN:
                nested, _ = self._messages[field.type_name]
                yield from self._query(field.type_name, list(nested.field), f"{prefix}{field.json_name}.")
            else:
                parameter = self._parameter(message, field)
                yield {**parameter, "name": prefix + field.json_name, "in": "query"}

    def _parameter(self, message: str, field: FieldDescriptorProto) -> Schema:
        schema = self._value(field, is_response=False)
        return {"name": field.name, "description": self._comments[f"{message}.{field.name}"], "schema": schema}

    def _reference(self, name: str, *, is_response: bool = False) -> Schema:
        """Return a reference to a message's schema; responses have every field that is no message."""
        message, package = self._messages[name]
        short = message.name if package == "statecast.v1" else name.removeprefix(".")
        if short not in self._schemas:
            self._schemas[short] = {}  # of messages that hold themselves, there is none
            self._schemas[short] = self._schema(name, message, is_response=is_response)
        return {"$ref": f"#/components/schemas/{short}"}

    def _schema(self, name: str, message: DescriptorProto, *, is_response: bool) -> Schema:
        properties = {}
        for field in message.field:
            comment = self._comments.get(f"{name}.{field.name}", "")
            properties[field.json_name] = {"description": comment, **self._field(message, field, is_response)}
        schema: Schema = {"type": "object", "description": self._comments.get(name, ""), "properties": properties}
        if is_response:
            schema["required"] = [field.json_name for field in message.field if not has_presence(field)]
        else:
            schema["additionalProperties"] = False
        return schema

    def _field(self, message: DescriptorProto, field: FieldDescriptorProto, is_response: bool) -> Schema:
        nested = {f".{entry.name}" for entry in message.nested_type if entry.options.map_entry}
        if any(field.type_name.endswith(name) for name in nested):
            return {"type": "object", "additionalProperties": {"type": "string"}}
        value = self._value(field, is_response=is_response)
        if field.label != FieldDescriptorProto.LABEL_REPEATED:
            return value
        if field.type == FieldDescriptorProto.TYPE_DOUBLE and not is_response:
            value = {"anyOf": [*NUMBER["anyOf"], {"type": "null"}]}
        return {"type": "array", "items": value}

    def _value(self, field: FieldDescriptorProto, *, is_response: bool) -> Schema:
        if field.type_name in WELL_KNOWN:
            return WELL_KNOWN[field.type_name]
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            return self._reference(field.type_name, is_response=is_response)
        return SCALARS[field.type]

    def _note(self, file: FileDescriptorProto) -> None:
        """Note a file's messages by their full names, and the comments before its parts."""
        names: dict[tuple[int, ...], str] = {}
        for index, message in enumerate(file.message_type):
            full = f".{file.package}.{message.name}"
            self._messages[full] = message, file.package
            names[MESSAGE, index] = full
            names |= {(MESSAGE, index, FIELD, at): f"{full}.{each.name}" for at, each in enumerate(message.field)}
        for index, service in enumerate(file.service):
            full = f".{file.package}.{service.name}"
            names |= {(SERVICE, index, METHOD, at): f"{full}.{each.name}" for at, each in enumerate(service.method)}
        for location in file.source_code_info.location:
            if name := names.get(tuple(location.path)):
                self._comments[name] = " ".join(location.leading_comments.split())


def rules_of(method: MethodDescriptorProto) -> Iterator[tuple[str, str, bool]]:
    """Yield the HTTP method and path of a method that has them, and whether it takes a body."""
    rule = method.options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    if verb:
        yield verb, getattr(rule, verb), rule.body == "*"


def has_presence(field: FieldDescriptorProto) -> bool:
    """Return whether a field may be absent."""
    is_repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return not is_repeated and (field.type == FieldDescriptorProto.TYPE_MESSAGE or field.HasField("oneof_index"))


def main() -> None:
    """Read a FileDescriptorSet with comments from the first argument; write the document to the second."""
    image, target = map(Path, sys.argv[1:])
    document = Generator(FileDescriptorSet.FromString(image.read_bytes())).document()
    target.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
