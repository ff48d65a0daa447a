"""Every RPC of every service, found in the descriptors so that none is forgotten."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.message import DecodeError, Message

from statecast.oip import inference_service_pb2
from statecast.v1 import admin_service_pb2, forecast_service_pb2, model_service_pb2

MOST_ANSWERS = 50
"""Messages of an export that are read, so that it does not take long."""
ANSWER_SECONDS = 10.0
"""Seconds without an answer after which a call counts as hanging."""


@dataclass(frozen=True)
class Rpc:
    """One RPC method."""

    name: str
    path: str
    request: type[Message]
    response: type[Message]
    streams: bool
    """True if the caller may send many messages."""
    answers_many: bool

    def parse(self, frame: bytes) -> Message | None:
        """Decode the request; return None if it cannot be decoded."""
        try:
            return self.request.FromString(frame)
        except DecodeError:
            return None


def _rpcs() -> dict[str, Rpc]:
    found = {}
    for file in (admin_service_pb2, forecast_service_pb2, inference_service_pb2, model_service_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                found[method.name] = Rpc(
                    method.name,
                    f"/{service.full_name}/{method.name}",
                    message_factory.GetMessageClass(method.input_type),
                    message_factory.GetMessageClass(method.output_type),
                    method.client_streaming,
                    method.server_streaming,
                )
    return found


RPCS = _rpcs()


@dataclass(frozen=True)
class Answer:
    """The end of a call: its answers, code, message, and the trailer with the details."""

    responses: tuple[Any, ...]
    code: grpc.StatusCode
    message: str = ""
    details: bytes | None = None

    @property
    def hangs(self) -> bool:
        """Return whether the client gave up; a server that ends a late call adds details."""
        return self.code is grpc.StatusCode.DEADLINE_EXCEEDED and self.details is None


class Caller:
    """A caller that sends frames unchanged."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._methods: dict[str, Any] = {}
        for rpc in RPCS.values():
            kind: Any = channel.stream_stream if rpc.streams else channel.unary_unary
            if rpc.answers_many and not rpc.streams:
                kind = channel.unary_stream
            self._methods[rpc.name] = kind(rpc.path, response_deserializer=rpc.response.FromString)

    def call(self, rpc: Rpc, frames: tuple[bytes, ...]) -> Answer:
        """Send the frames, only the first unless the method takes a stream, and wait for the end."""
        responses: list[Any] = []
        try:
            if rpc.answers_many:
                sent = iter(frames) if rpc.streams else frames[0]
                call = self._methods[rpc.name](sent, timeout=ANSWER_SECONDS)
                responses.extend(call if rpc.streams else islice(call, MOST_ANSWERS))
                call.cancel()
            else:
                responses.append(self._methods[rpc.name](frames[0], timeout=ANSWER_SECONDS))
        except grpc.RpcError as caught:
            error: Any = caught
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
            return Answer(tuple(responses), error.code(), error.details() or "", details)
        return Answer(tuple(responses), grpc.StatusCode.OK)
