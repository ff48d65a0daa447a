"""Implements statecast.v1.ForecastService: converts, calls the engine, converts back."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

from statecast.service.engine.request import Fork, Outcome, Request
from statecast.service.errors import NotFound
from statecast.service.log import AUDIT, with_fields
from statecast.service.rpc import encoding, forecast_requests, sessions
from statecast.service.rpc.engine_client import Call, EngineClient
from statecast.service.rpc.fields import from_version, to_session_id
from statecast.service.rpc.frames import MAX_ANSWER_BYTES, Frame, Frames, check_size
from statecast.service.rpc.methods import Context, StreamContext
from statecast.service.rpc.request_log import caller_fields, session_field
from statecast.service.rpc.streams import Streams
from statecast.service.store.catalog import Catalog
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceServicer

audit = logging.getLogger(AUDIT)


class ForecastService(ForecastServiceServicer):
    """Answers from the engine behind `engine_client`, and lists sessions from `catalog`."""

    def __init__(self, engine_client: EngineClient, streams: Streams, catalog: Catalog) -> None:
        self._engine_client = engine_client
        self._streams = streams
        self._catalog = catalog

    async def Forecast(self, request: pb.ForecastRequest, context: Context) -> bytes:  # type: ignore[override]
        call = Call.of(context).within(forecast_requests.to_timeout(request))
        self._engine_client.check(call, forecast_requests.cost_of(request))
        asked = context.asked = forecast_requests.to_request(request, call)
        return encoding.response(asked, await self._engine_client.ask(asked, call))

    async def ForecastMany(self, request: pb.ForecastManyRequest, context: Context) -> bytes:  # type: ignore[override]
        count = len(request.requests)
        check_size(count)
        results: list[bytes] = [b""] * count
        complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        missing = count

        def emit(position: int, result: bytes, nbytes: int) -> None:
            nonlocal missing
            results[position] = result
            missing -= 1
            if not missing and not complete.done():
                complete.set_result(None)

        call = Call.of(context)
        frame = Frame(self._engine_client, context, call, emit, complete.done, MAX_ANSWER_BYTES)
        for position, message in enumerate(request.requests):
            frame.add(position, message)
        frame.flush()
        try:
            if count:
                await complete
        finally:
            frame.abandon()
        return encoding.results(results)

    async def ForecastStream(  # type: ignore[override]  # a coroutine that reads and writes by itself
        self, request_iterator: AsyncIterator[pb.ForecastStreamRequest], context: StreamContext
    ) -> None:
        await self._streams.serve(context, partial(Frames, self._engine_client))

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Context) -> pb.OpenSessionResponse:  # type: ignore[override]
        session_id = to_session_id(request.session_id)
        opening = sessions.to_opening(request.options, "options")
        call = Call.of(context)
        if opening.upgrade:
            call.require_write("upgrade sessions")
        asked = Request(session_id, opening, tenant=call.principal.tenant, may_open=call.may_write)
        outcome = await self._engine_client.ask(asked, call)
        return pb.OpenSessionResponse(session=sessions.from_outcome(session_id, outcome), opened=outcome.opened)

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:  # type: ignore[override]
        session_id = to_session_id(request.session_id)
        call = Call.of(context)
        outcome = await self._engine_client.ask(Request(session_id, tenant=call.principal.tenant), call)
        return pb.GetSessionResponse(session=sessions.from_outcome(session_id, outcome))

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:  # type: ignore[override]
        self._engine_client.charge(Call.of(context))
        listing = sessions.to_listing(request, context.principal.tenant)
        page = await self._catalog.page(listing)
        return pb.ListSessionsResponse(
            sessions=map(sessions.from_summary, page.sessions), next_page_token=page.next_page_token
        )

    async def ForkSession(self, request: pb.ForkSessionRequest, context: Context) -> pb.ForkSessionResponse:  # type: ignore[override]
        call = Call.of(context)
        call.require_write("fork sessions")
        source, target = sessions.to_fork(request, call.principal.tenant)
        outcome = await self._earlier_fork(target, call)
        if outcome is None:
            copied = await self._engine_client.ask(source, call)
            fork = Fork(source.session_id, copied.seed, target.fork.ttl_ms if target.fork else None)
            outcome = await self._engine_client.ask(replace(target, fork=fork), call)
            told = {"session": session_field(target.session_id), "source": session_field(source.session_id)}
            audit.info("session forked", extra=with_fields(**told, **caller_fields(context)))
        return pb.ForkSessionResponse(
            session=sessions.from_outcome(target.session_id, outcome), replayed=outcome.replayed
        )

    async def UpgradeSession(self, request: pb.UpgradeSessionRequest, context: Context) -> pb.UpgradeSessionResponse:  # type: ignore[override]
        call = Call.of(context)
        call.require_write("upgrade sessions")
        asked = context.asked = sessions.to_upgrade(request, call.principal.tenant)
        outcome = await self._engine_client.ask(asked, call)
        if not outcome.replayed and outcome.model is not None:
            model, version = outcome.model.labels
            told = {"session": session_field(asked.session_id), "model": model, "version": version}
            audit.info("session upgraded", extra=with_fields(**told, steps=outcome.reencoded, **caller_fields(context)))
        return pb.UpgradeSessionResponse(
            session=sessions.from_outcome(asked.session_id, outcome),
            reencoded_steps=outcome.reencoded,
            exact=outcome.is_exact,
            replayed=outcome.replayed,
        )

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.CloseSessionResponse:  # type: ignore[override]
        call = Call.of(context)
        call.require_write("close sessions")
        outcome = await self._engine_client.ask(sessions.to_closing(request, call.principal.tenant), call)
        told = with_fields(session=session_field(request.session_id), **caller_fields(context))
        audit.info("session closed", extra=told)
        return pb.CloseSessionResponse(version=from_version(outcome.version))

    async def _earlier_fork(self, target: Request, call: Call) -> Outcome | None:
        """Return the result of an earlier call with the same request id, even if its source has changed or gone."""
        try:
            return await self._engine_client.ask(target, call)
        except NotFound:
            return None
