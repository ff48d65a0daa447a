"""Calls of one session take turns; calls of several sessions never wait for each other in a circle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from statecast.client import DeadlineExceeded
from statecast.client._turns import SessionLock, Turn


@asynccontextmanager
async def turn(made: dict[str, SessionLock], timeout_seconds: float = 10) -> AsyncIterator[None]:
    taken = Turn(made, timeout_seconds)
    await taken.begin()
    yield
    taken.end()


def locks(*names: str) -> dict[str, SessionLock]:
    return {name: SessionLock() for name in names}


async def test_a_call_waits_for_the_one_before_it() -> None:
    made, order = locks("a"), []

    async def call(number: int) -> None:
        async with turn(made):
            order.append(f"{number} begins")
            await asyncio.sleep(0)
            order.append(f"{number} ends")

    await asyncio.gather(*map(call, range(3)))
    assert order == [f"{number} {what}" for number in range(3) for what in ("begins", "ends")]
    assert made["a"].wanted == 0


async def test_sessions_in_opposite_order_do_not_block_each_other() -> None:
    made = locks("a", "b")

    async def call(*names: str) -> None:
        for _ in range(50):
            async with turn({name: made[name] for name in names}):
                await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await asyncio.gather(call("a", "b"), call("b", "a"), call("b"))


async def test_who_waits_too_long_is_refused_and_holds_nothing() -> None:
    made = locks("a", "b")
    async with turn({"b": made["b"]}):
        with pytest.raises(DeadlineExceeded, match=r"'b'.* 0\.01 s"):
            await Turn(made, 0.01).begin()
        assert not made["a"].locked()
        assert (made["a"].wanted, made["b"].wanted) == (0, 1)


async def test_a_cancelled_wait_holds_nothing() -> None:
    made = locks("a")
    async with turn(made):
        waiting = asyncio.ensure_future(Turn(made, 10).begin())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert made["a"].wanted == 1
    assert not made["a"].locked()
