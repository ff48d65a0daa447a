"""ModelStreamInfer: a request a message, answered in the order of the requests."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from statecast.oip import inference_service_pb2 as pb
from statecast.service.engine.request import Answered, Outcome, Request, Ticket
from statecast.service.errors import InvalidRequest, ServiceError
from statecast.service.log import AUDIT, with_fields
from statecast.service.models.registry import Registry
from statecast.service.rpc.accounting import Kind
from statecast.service.rpc.engine_client import Call, EngineClient
from statecast.service.rpc.frames import MAX_FRAME_BYTES, Emit
from statecast.service.rpc.inference_answers import response
from statecast.service.rpc.inference_requests import Asked, cost_of, in_its_terms, to_asked
from statecast.service.rpc.methods import Context
from statecast.service.rpc.request_log import caller_fields, session_field
from statecast.service.rpc.status import to_status
from statecast.service.rpc.tensor_names import TensorNames

audit = logging.getLogger(AUDIT)


def tell_of_sequence(request: Request, outcome: Outcome, context: Context) -> None:
    """Write to the audit log if a request has ended the history of a session."""
    if outcome.replayed:
        return
    told = with_fields(session=session_field(request.session_id), **caller_fields(context))
    if request.restarts and not outcome.opened:
        audit.info("session restarted", extra=told)
    if request.ends:
        audit.info("session ended", extra=told)


class Inferences:
    """The requests of one stream; an answer waits for those to earlier requests."""

    most_results = 1

    def __init__(
        self,
        engine_client: EngineClient,
        registry: Registry,
        names: TensorNames,
        context: Context,
        call: Call,
        emit: Emit,
        has_gone: Callable[[], bool],
    ) -> None:
        """Answer requests of a call; `emit` and `has_gone` are those of its stream."""
        self.engine_client, self.registry, self.names = engine_client, registry, names
        self.context, self.call, self.has_gone = context, call, has_gone
        self._emit = emit
        self._waiting: deque[_Inference] = deque()

    def requests(self, message: pb.ModelInferRequest) -> Sequence[pb.ModelInferRequest]:
        """Return the only request in a message.

        Raises:
            InvalidRequest: if it is too large.
        """
        if message.ByteSize() > MAX_FRAME_BYTES:
            raise InvalidRequest(
                "inputs", f"a message of a stream has more than {MAX_FRAME_BYTES // 2**20} MiB; send fewer time steps"
            )
        return [message]

    def frame(self) -> "_Inference":
        """Return what handles the request of the next message."""
        inference = _Inference(self)
        self._waiting.append(inference)
        return inference

    def encode(self, results: Sequence[bytes]) -> bytes:
        """Return the message with the only result."""
        return results[0]

    def emit_answered(self) -> None:
        """Emit the answers that wait for no other."""
        while self._waiting and self._waiting[0].answer is not None:
            answered = self._waiting.popleft()
            self._emit(0, answered.answer or b"", answered.nbytes)


class _Inference:
    """The request of one message, and later its encoded answer."""

    def __init__(self, stream: Inferences) -> None:
        self._stream, self._started = stream, time.perf_counter()
        self._asked: Asked | None = None
        self.answer: bytes | None = None
        self.nbytes = 0

    @property
    def is_done(self) -> bool:
        """True if the request has been answered, or given up."""
        return self.answer is not None

    def add(self, position: int, message: pb.ModelInferRequest) -> int:
        """Accept the request, to be queued by `flush`; return the approximate memory that it takes."""
        stream, call = self._stream, self._stream.call
        try:
            stream.engine_client.check(call, cost_of(message))
            asked = to_asked(message, call, stream.registry, stream.names)
            if call.trace is not None:
                call.trace.follow(asked.request, Kind.STEP)
        except Exception as error:  # a broken request must not end the stream
            self._fail(error, message, message.id)
            return 0
        self._asked, self.nbytes = asked, asked.request.nbytes
        return self.nbytes

    def flush(self) -> None:
        """Queue the request, if it was accepted."""
        if self._asked is None or self.is_done:
            return
        stream, asked = self._stream, self._asked
        ticket = Ticket(stream.call.caller, self._deliver, stream.has_gone)
        _, error = stream.engine_client.submit(ticket, [asked.request])
        if error is not None:
            self._fail(error, asked.request, asked.wanted.id)

    def abandon(self) -> None:
        """Settle the request as cancelled if it has no answer: its caller has gone."""
        if self._asked is not None and not self.is_done:
            accounts = self._stream.engine_client.accounts
            accounts.cancelled(Kind.STEP, self._started, self._asked.request, self._stream.context)
        self.answer = self.answer or b""

    def _deliver(self, answered: Sequence[Answered]) -> None:
        """Answer the request."""
        asked, ((request, result),) = self._asked, answered
        if asked is None or self._stream.has_gone() or self.is_done:
            return
        try:
            if not isinstance(result, Outcome):
                raise in_its_terms(result, asked) if isinstance(result, ServiceError) else result
            answer = response(asked.wanted, result)
        except Exception as error:  # that of the request, or a bug
            self._fail(error.with_traceback(None), request, asked.wanted.id)
            return
        answer.parameters["triton_final_response"].bool_param = True
        self._settle(pb.ModelStreamInferResponse(infer_response=answer))
        context = self._stream.context
        self._stream.engine_client.accounts.succeeded(Kind.STEP, self._started, request, context)
        tell_of_sequence(request, result, context)

    def _fail(self, error: Exception, asked: object, request_id: str) -> None:
        context = self._stream.context
        self._stream.engine_client.accounts.failed(Kind.STEP, self._started, error, asked, context)
        told = pb.ModelInferResponse(id=request_id)
        self._settle(pb.ModelStreamInferResponse(error_message=to_status(error).message, infer_response=told))

    def _settle(self, answer: pb.ModelStreamInferResponse) -> None:
        self.answer = answer.SerializeToString()
        self._stream.emit_answered()
