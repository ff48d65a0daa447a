"""More streams than the limit, streams whose client vanishes, and one that is never read."""

import asyncio
import signal
import subprocess
import sys

import pytest
from support import await_true

from fuzz.crowds import crowd, torrent
from fuzz.place import MIB, Bystanders, Place

LIMIT, ALLOWED = 1000, 800
"""The default of `max-streams`, and what one connection gets of it."""
VANISHING = 200
CLIENT = f"""
import grpc, sys
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
import asyncio

async def main():
    channel = grpc.aio.insecure_channel(sys.argv[1])
    calls = [ForecastServiceStub(channel).ForecastStream() for _ in range({VANISHING})]
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("sending", [False, True], ids=["silent", "sending"])
def test_more_streams_than_are_let_in(fuzzed: Place, sending: bool) -> None:
    bystanders = Bystanders(fuzzed.stub, f"crowd-{sending}")
    report = asyncio.run(crowd(fuzzed, ALLOWED + 150, LIMIT, sending=sending))
    assert not report.wrong, report.wrong
    assert report.turned_away.total() == 150
    assert not bystanders.wrong()


def test_a_client_that_vanishes_leaves_nothing_behind(fuzzed: Place) -> None:
    before = fuzzed.rss()
    client = subprocess.Popen([sys.executable, "-c", CLIENT, fuzzed.server.target])
    try:
        await_true(lambda: fuzzed.streams() == VANISHING)
    finally:
        client.send_signal(signal.SIGKILL)
        client.wait()
    await_true(lambda: fuzzed.streams() == 0)
    assert fuzzed.rss() - before < 50 * MIB
    assert not fuzzed.trouble()


def test_a_stream_of_tiny_requests_that_nobody_reads(fuzzed: Place) -> None:
    report = asyncio.run(torrent(fuzzed, 2000, 10))
    assert not report.wrong, report.wrong
    assert report.answered == 20_000
