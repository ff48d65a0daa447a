"""statecast.v1.ForecastService: convert, ask the engine, convert back."""

import asyncio
from typing import Any, TypeAlias

import grpc.aio

from statecast.service.engine.request import Request
from statecast.service.errors import InvalidRequest, Overloaded
from statecast.service.rpc import convert
from statecast.service.rpc.gate import Gate
from statecast.service.rpc.status import to_status
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceServicer

MAX_REQUESTS_A_FRAME = 4096

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ForecastService(ForecastServiceServicer):
    """Answers from the engine behind `gate`."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def Forecast(self, request: pb.ForecastRequest, context: Context) -> pb.ForecastResponse:
        return await self._forecast(request)

    async def ForecastMany(self, request: pb.ForecastManyRequest, context: Context) -> pb.ForecastManyResponse:
        if len(request.requests) > MAX_REQUESTS_A_FRAME:
            raise InvalidRequest("requests", f"{len(request.requests)} are more than {MAX_REQUESTS_A_FRAME}")
        turned_away: dict[str, Overloaded] = {}
        results = await asyncio.gather(*(self._result(each, turned_away) for each in request.requests))
        return pb.ForecastManyResponse(results=results)

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Context) -> pb.OpenSessionResponse:
        session_id = convert.to_session_id(request.session_id)
        opening = convert.to_opening(request.options, "options")
        outcome = await self._gate.ask(Request(session_id, opening))
        return pb.OpenSessionResponse(session=convert.from_session(session_id, outcome), opened=outcome.opened)

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        session_id = convert.to_session_id(request.session_id)
        outcome = await self._gate.ask(Request(session_id))
        return pb.GetSessionResponse(session=convert.from_session(session_id, outcome))

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.CloseSessionResponse:
        outcome = await self._gate.ask(convert.to_closing(request))
        return pb.CloseSessionResponse(version=convert.from_version(outcome.version))

    async def _forecast(self, message: pb.ForecastRequest) -> pb.ForecastResponse:
        request = convert.to_request(message)
        return convert.to_response(request, await self._gate.ask(request))

    async def _result(self, message: pb.ForecastRequest, turned_away: dict[str, Overloaded]) -> pb.ForecastResult:
        """One result; a session that was turned away has its later requests of the frame turned away, too."""
        try:
            if error := turned_away.get(message.session_id):
                raise error
            return pb.ForecastResult(response=await self._forecast(message))
        except Overloaded as error:
            turned_away[message.session_id] = error
            return pb.ForecastResult(status=to_status(error))
        except Exception as error:  # one broken request must not take its frame with it
            return pb.ForecastResult(status=to_status(error))
