"""Implements statecast.v1.AdminService: exports and imports sessions, as streams; manages models."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from importlib.metadata import version
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from statecast.service.engine.transfer import Arrival, Exported, Taken, Transfer
from statecast.service.errors import ServiceError
from statecast.service.log import AUDIT, with_fields
from statecast.service.rpc import moved_sessions
from statecast.service.rpc.accounting import Accounts, Kind
from statecast.service.rpc.engine_client import Call
from statecast.service.rpc.methods import Context, StreamContext, undecodable
from statecast.service.rpc.model_management import ModelManagement
from statecast.service.rpc.request_log import caller_fields, session_field
from statecast.service.rpc.status import to_status
from statecast.service.rpc.transfers import OpenTransfer, Transfers
from statecast.v1 import admin_service_pb2 as pb
from statecast.v1.admin_service_pb2_grpc import AdminServiceServicer

RECORDS_AT_ONCE = 64
MAX_BYTES_A_MESSAGE = 1024 * 1024
"""Size from which a message of an export takes no further session."""

T = TypeVar("T")
audit = logging.getLogger(AUDIT)


class AdminService(AdminServiceServicer):
    """Lets `transfer` read and write sessions, in the thread of `transfers`; the audit log shows by whom."""

    def __init__(
        self, transfers: Transfers, transfer: Transfer, accounts: Accounts, management: ModelManagement
    ) -> None:
        self._transfers, self._transfer, self._accounts = transfers, transfer, accounts
        self._management = management

    async def ExportSessions(  # type: ignore[override]  # a coroutine that writes by itself
        self, request: pb.ExportSessionsRequest, context: StreamContext
    ) -> None:
        Call.of(context).require_admin("export sessions")
        cursor = moved_sessions.begin_of(request)
        sessions = 0
        with self._transfers.opened(context.principal) as opened:
            try:
                async for message in self._exported(opened, request.prefix, cursor):
                    opened.check()
                    await context.write(message.SerializeToString())
                    sessions += len(message.sessions)
            finally:
                told = with_fields(prefix=session_field(request.prefix), sessions=sessions, **caller_fields(context))
                audit.info("sessions exported", extra=told)

    async def ImportSessions(  # type: ignore[override]  # a coroutine that reads and writes by itself
        self, request_iterator: AsyncIterator[pb.ImportSessionsRequest], context: StreamContext
    ) -> None:
        Call.of(context).require_admin("import sessions")
        outcomes: Counter[str] = Counter()
        with self._transfers.opened(context.principal) as opened:
            try:
                while (frame := await opened.read(context)) is not grpc.aio.EOF:
                    if isinstance(frame, DecodeError):
                        raise undecodable(frame)
                    await self._transfers.charge(opened)
                    results = await _to_the_end(self._take(frame, context, outcomes))
                    await context.write(pb.ImportSessionsResponse(results=results).SerializeToString())
            finally:
                audit.info("sessions imported", extra=with_fields(**outcomes, **caller_fields(context)))

    async def SetModelAlias(self, request: pb.SetModelAliasRequest, context: Context) -> pb.SetModelAliasResponse:  # type: ignore[override]
        Call.of(context).require_admin("set aliases of models")
        before = await self._management.set_alias(request)
        told = {"model": request.name, "alias": request.alias, "version": request.version, "before": before}
        audit.info("alias of a model set", extra=with_fields(**told, **caller_fields(context)))
        return pb.SetModelAliasResponse(previous_version=before)

    async def SetModelPolicy(self, request: pb.SetModelPolicyRequest, context: Context) -> pb.SetModelPolicyResponse:  # type: ignore[override]
        Call.of(context).require_admin("set policies of models")
        before = await self._management.set_policy(request)
        told = {"model": request.name, "policy": request.policy, "before": before}
        audit.info("policy of a model set", extra=with_fields(**told, **caller_fields(context)))
        return pb.SetModelPolicyResponse(previous_policy=before)

    async def RetireModel(self, request: pb.RetireModelRequest, context: Context) -> pb.RetireModelResponse:  # type: ignore[override]
        Call.of(context).require_admin("retire models")
        is_changed = await _to_the_end(self._management.retire(request))
        told = {"model": request.name, "version": request.version, "undone": request.undo, "changed": is_changed}
        audit.info("version of a model retired", extra=with_fields(**told, **caller_fields(context)))
        return pb.RetireModelResponse(unchanged=not is_changed)

    async def _exported(
        self, opened: OpenTransfer, prefix: str, cursor: int
    ) -> AsyncIterator[pb.ExportSessionsResponse]:
        """Yield the messages of an export, a page of keys after the other; each page ends with its token."""
        tenant, start = opened.principal.tenant, Timestamp()
        start.GetCurrentTime()
        count = await self._transfers.run(self._transfer.count, tenant, prefix)
        source = pb.ExportSource(
            server_version=version("statecast"), tenant=tenant, start_time=start, session_count=count
        )
        yield pb.ExportSessionsResponse(source=source)
        while True:
            await self._transfers.charge(opened)
            keys, cursor = await self._transfers.run(self._transfer.find, tenant, prefix, cursor)
            for at in range(0, len(keys), RECORDS_AT_ONCE):
                for message in await self._transfers.run(_messages, self._transfer, keys[at : at + RECORDS_AT_ONCE]):
                    yield message
            if not cursor:
                return
            yield pb.ExportSessionsResponse(next_page_token=str(cursor))

    async def _take(
        self, frame: pb.ImportSessionsRequest, context: StreamContext, outcomes: Counter[str]
    ) -> list[pb.ImportResult]:
        """Import a frame; settle each of its sessions as one request, and count what became of it."""
        started, tenant = time.perf_counter(), context.principal.tenant
        arrivals = await self._transfers.run(moved_sessions.to_arrivals, frame, tenant)
        valid = [each for each in arrivals if isinstance(each, Arrival)]
        full = self._transfers.full(tenant)
        try:
            taken = await self._transfers.run(self._transfer.take, valid, replace=frame.replace, full=full)
        except ServiceError as error:  # of Redis
            for message in frame.sessions:
                self._accounts.failed(Kind.IMPORT, started, error, message, context)
            raise
        results = [taken[each.key] if isinstance(each, Arrival) else each for each in arrivals]
        for message, result in zip(frame.sessions, results, strict=True):
            if isinstance(result, ServiceError):
                self._accounts.failed(Kind.IMPORT, started, result, message, context)
            else:
                self._accounts.succeeded(Kind.IMPORT, started, message, context)
                _tell_if_replaced(message.session_id, result, context)
            outcomes[_outcome(result)] += 1
        self._transfers.count_new(tenant, sum(isinstance(each, Taken) and not each.was_there for each in results))
        return [
            moved_sessions.from_taken(message.session_id, result)
            for message, result in zip(frame.sessions, results, strict=True)
        ]


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Carry out work, to its end even if the call is cancelled: Redis may have the commit already."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _messages(transfer: Transfer, keys: Sequence[str]) -> list[pb.ExportSessionsResponse]:
    """Return the open sessions with these keys, in messages of a limited size."""
    messages: list[pb.ExportSessionsResponse] = []
    message, nbytes = pb.ExportSessionsResponse(), 0
    for each in transfer.read(keys):
        if isinstance(each, Exported):
            session = moved_sessions.from_exported(each)
            message.sessions.append(session)
            nbytes += len(session.record)
        else:
            message.unreadable.add(session_id=each.session_id, status=to_status(each.error))
        if nbytes >= MAX_BYTES_A_MESSAGE:
            messages.append(message)
            message, nbytes = pb.ExportSessionsResponse(), 0
    return [*messages, message] if message.sessions or message.unreadable else messages


def _outcome(result: Taken | ServiceError) -> str:
    if isinstance(result, ServiceError):
        return "refused"
    return "unchanged" if not result.changed else "replaced" if result.was_there else "created"


def _tell_if_replaced(session_id: str, taken: Taken, context: StreamContext) -> None:
    if taken.was_there and taken.changed:
        told = with_fields(session=session_field(session_id), **caller_fields(context))
        audit.info("session replaced", extra=told)
