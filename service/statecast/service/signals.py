"""Signals that ask a process to stop. Those ignored at its start stay ignored, as under nohup."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A request to stop, Ctrl-C, and a closed terminal."""
_received: list[int] = []


def heeded() -> list[signal.Signals]:
    """Return the signals to stop at: without those that a script's background job or nohup ignores."""
    return [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]


def end_when_asked() -> None:
    """Exit the process cleanly at the first stop signal.

    The kernel drops signals to a container's first process unless it handles them. Ctrl-C stays a KeyboardInterrupt.
    """
    for number in heeded():
        signal.signal(number, _end)


def was_asked() -> bool:
    """Return True if a stop signal has come: an import may have swallowed the exception that it raised."""
    return bool(_received)


@contextmanager
def stopping(stop: asyncio.Event, at_once: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Set `stop` at the first stop signal; a second one calls `at_once` and ends the process."""
    loop = asyncio.get_running_loop()

    def received(number: int) -> None:
        if stop.is_set():
            log.error("second signal: ending at once; an embedded Redis stays until the next start")
            at_once()
            os._exit(128 + number)
        stop.set()

    numbers = heeded()
    for number in numbers:
        loop.add_signal_handler(number, received, number)
    if was_asked():
        stop.set()
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if number == signal.SIGINT:
        signal.default_int_handler(number, frame)
    sys.exit(128 + number)
