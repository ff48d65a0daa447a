"""The server inside Envoy: pyvoy imports `app` there and calls it as ASGI says."""

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from statecast.service import gc_tuning
from statecast.service.access.certificates import Certificates
from statecast.service.envoy import control
from statecast.service.envoy.admin import Admin
from statecast.service.envoy.configuration import MIB
from statecast.service.envoy.control import Control
from statecast.service.envoy.secrets import Secrets
from statecast.service.errors import StartupError
from statecast.service.log import configure_logging
from statecast.service.models.registry import load_registry
from statecast.service.rpc.methods import Method
from statecast.service.server import LoadModels, MakeTransport, Running, Transport, serving
from statecast.service.settings import Settings
from statecast.service.transport.asgi import AsgiTransport
from statecast.service.transport.asgi_call import Receive, Send

log = logging.getLogger(__name__)


class Inside:
    """The server, from Envoy's start to its end."""

    def __init__(self, load_models: LoadModels = load_registry) -> None:
        self._load_models = load_models
        self._transport: AsgiTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._can_listen = asyncio.Event()
        self._is_quitting = False
        self._folder = Path()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a call, or start and stop the server."""
        if scope["type"] == "http" and self._transport is not None:
            await self._transport.serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._task = asyncio.ensure_future(self._run())
        can_listen = asyncio.ensure_future(self._can_listen.wait())
        await asyncio.wait([self._task, can_listen], return_when=asyncio.FIRST_COMPLETED)
        if not self._can_listen.is_set():
            await send({"type": "lifespan.startup.failed", "message": "see the server's own message"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if not self._is_quitting:  # a signal has reached Envoy itself
            log.warning("Envoy was stopped; calls in flight are cut off")
            self._task.cancel()
            await asyncio.wait([self._task])
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self) -> None:
        """Serve until the operator's process says STOP or has gone, or the engine fails; then end Envoy."""
        link = await Control.over(control.inherited())
        hello = await link.receive()
        if hello is None:
            return
        settings, admin = control.from_json(hello["settings"]), Admin(Path(hello["admin"]))
        self._folder = Path(hello["admin"]).parent
        configure_logging(settings.log_level, settings.log_format)
        await link.send({control.LOADED: True})
        try:
            async with serving(settings, self._load_models, self._maker(admin)) as running:
                gc_tuning.look_seldom()
                running.metrics.registry.register(admin)
                await self._until_stopped(link, running, settings)
        except StartupError as error:
            await link.send({control.FAILED: str(error)})
            os._exit(1)  # before Envoy complains as well
        except Exception as error:
            log.exception("the server has ended")
            await link.send({control.FAILED: str(error), "started": True})
        else:
            log.info("stopped")
        self._is_quitting = True
        await admin.quit()

    async def _until_stopped(self, link: Control, running: Running, settings: Settings) -> None:
        message: asyncio.Future[Any] = asyncio.ensure_future(link.receive())
        await asyncio.wait([message, running.engine], return_when=asyncio.FIRST_COMPLETED)
        if not message.done():
            message.cancel()
            await running.drain(settings)
            running.raise_engine_stopped()
        elif message.result() is None:
            log.error("the process that started this server was killed")
            shutil.rmtree(self._folder, ignore_errors=True)
            os.kill(os.getpid(), signal.SIGKILL)  # as if this process had been
        else:
            await running.drain(settings)

    def _maker(self, admin: Admin) -> MakeTransport:
        async def listen() -> int:
            self._can_listen.set()
            return await admin.port()

        def make(settings: Settings, methods: Mapping[str, Method], _: Certificates | None) -> Transport:
            message, queue = settings.max_message_mib * MIB, settings.queue_mib * MIB
            most = max(queue, 2 * message)
            renew = Secrets(self._folder).write
            self._transport = AsgiTransport(methods, message, most, listen, admin.drain, renew)
            return self._transport

        return make


app: Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]] = Inside()
