"""A client belongs to an event loop and to a process; elsewhere it connects anew, or says so at once."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import WAIT_SECONDS
from support.servers import ServerThread

from statecast.client import AsyncClient, ServerError, StatecastError
from statecast.client._aio_stream import AsyncStream
from statecast.client._bearer import AsyncBearer
from statecast.client._request import Request


def test_a_second_loop_connects_anew(server: ServerThread, session_id: str) -> None:
    client = AsyncClient(server.target, timeout_seconds=5)
    session = client.session(session_id, model="tiny")

    async def work() -> int:
        results = await asyncio.gather(*(session.observe(1.0) for _ in range(3)))
        assert (await session.info()).version == max((each.version for each in results), key=lambda each: each.step)
        return (await session.step(1.0, 2)).version.step

    assert [asyncio.run(work()) for _ in range(3)] == [4, 8, 12]

    async def leave() -> None:
        await client.close()

    asyncio.run(leave())
    with pytest.raises(StatecastError, match="the client is closed"):
        asyncio.run(work())


def test_a_loop_that_was_stopped_in_the_middle_leaves_no_lock_behind(server: ServerThread, session_id: str) -> None:
    client = AsyncClient(server.target, timeout_seconds=5)
    session = client.session(session_id, model="tiny")

    async def begin() -> None:
        for _ in range(3):  # nobody waits for them when the loop ends
            asyncio.ensure_future(session.observe(1.0))  # noqa: RUF006
        await asyncio.sleep(0)

    async def go_on() -> None:
        await session.observe(1.0)
        await client.close()

    asyncio.run(begin())
    asyncio.run(go_on())


def test_two_loops_at_the_same_time_are_refused(server: ServerThread, session_id: str) -> None:
    client = AsyncClient(server.target, timeout_seconds=5)
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(client.session(session_id, model="tiny").observe(1.0), other).result(WAIT_SECONDS)
    with pytest.raises(StatecastError, match="in use on another event loop"):
        asyncio.run(client.session(session_id).info())
    asyncio.run_coroutine_threadsafe(client.close(), other).result(WAIT_SECONDS)
    other.call_soon_threadsafe(other.stop)
    thread.join(WAIT_SECONDS)
    other.close()


class Call:
    """A stream that fails in some way."""

    def __init__(self, *, fails_at: str) -> None:
        self._fails_at = fails_at

    async def read(self) -> Any:
        if self._fails_at == "read":
            raise RuntimeError("read is broken")
        await asyncio.sleep(WAIT_SECONDS)

    async def write(self, _: Any) -> None:
        if self._fails_at == "write":
            raise RuntimeError("write is broken")

    def cancel(self) -> None:
        """Nothing is under way."""


def never_opened() -> Call:
    raise RuntimeError("open is broken")


@pytest.mark.parametrize(
    ("open_call", "says"),
    [
        (never_opened, "open is broken"),
        (lambda: Call(fails_at="read"), "read is broken"),
        (lambda: Call(fails_at="write"), "write is broken"),
    ],
)
async def test_a_stream_that_dies_wakes_all_who_wait(open_call: Callable[[], Call], says: str) -> None:
    stream = AsyncStream(lambda _: open_call(), AsyncBearer(None, None), lambda _: None)
    started = time.monotonic()
    asked = [stream.ask(Request(name, "r"), WAIT_SECONDS) for name in "abc"]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert time.monotonic() - started < WAIT_SECONDS / 2
    for result in results:
        assert isinstance(result, ServerError)
        assert says in str(result)
        assert result.outcome_unknown
    await stream.close()


def test_a_forked_process_is_told_at_once(server: ServerThread, session_id: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name("forked.py")), server.target, session_id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for told in said["told"]:
        assert f"made in process {said['pid']}, and its connection does not survive a fork" in told
        assert "make a new client" in told
    assert said["closed"] == "no error"
    assert said["works"] > 1
