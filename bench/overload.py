"""A server under 2, 5 and 10 times the load that it can carry.

    .venv/bin/python bench/overload.py [--seconds 30] [--requests-a-call 8]

The benchmark starts a server with an embedded Redis and the model `base`. First a closed loop finds the server's peak.
Then requests arrive at a multiple of that rate, whether or not earlier ones were answered, each with a deadline of one
second. The table shows how many were answered in time (goodput) and how quickly the rest were turned away. It also
shows the server's memory, and the time after the load until it answers as before. The load comes from another process
on the same machine and shares its cores.
"""

import asyncio
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import click
import grpc
import grpc.aio
import psutil

from statecast.testing import LocalServer
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

VALUES_A_REQUEST = 2048
HORIZON = 24
SESSIONS = 200
DEADLINE_SECONDS = 1.0
PEAK_CONCURRENCIES = (4, 16, 32)
FACTORS = (2, 5, 10)
PAUSE_SECONDS = 0.1
RECOVERED_AFTER = 10
"""The server has recovered after this many quick answers in a row."""


@dataclass
class Answers:
    """The answers to a load.

    Attributes:
        seconds: Seconds that each answer took, by status code.
        succeeded_at: Monotonic time of each success.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    succeeded_at: list[float] = field(default_factory=list)

    def add(self, code: str, started: float) -> None:
        """Record one answer."""
        now = time.monotonic()
        self.seconds.setdefault(code, []).append(now - started)
        if code == "OK":
            self.succeeded_at.append(now)


def _request(number: int) -> pb.ForecastRequest:
    values = [float((number + at) % 97) for at in range(VALUES_A_REQUEST)]
    return pb.ForecastRequest(
        session_id=f"s-{number % SESSIONS}",
        open=forecast_pb2.OpenOptions(),
        observations=forecast_pb2.Observations(values=values),
        horizon=HORIZON,
    )


CODES = {code.value[0]: code.name for code in grpc.StatusCode}
REQUESTS = [_request(number) for number in range(SESSIONS)]


async def _ask(stub: ForecastServiceStub, number: int, size: int, answers: Answers) -> bool:
    """Send one call of `size` requests, record the answers and return whether all succeeded."""
    started = time.monotonic()
    requests = [REQUESTS[(number * size + at) % SESSIONS] for at in range(size)]
    try:
        if size == 1:
            await stub.Forecast(requests[0], timeout=DEADLINE_SECONDS)  # type: ignore[misc]
            codes = ["OK"]
        else:
            call = stub.ForecastMany(pb.ForecastManyRequest(requests=requests), timeout=DEADLINE_SECONDS)
            codes = [CODES[result.status.code] for result in (await call).results]  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        codes = [error.code().name] * size
    for code in codes:
        answers.add(code, started)
    return set(codes) == {"OK"}


def closed_loop(target: str, concurrency: int, size: int, seconds: float) -> Answers:
    """Run `concurrency` callers, each of which waits for its answer before it sends the next call."""
    answers = Answers()
    end = time.monotonic() + seconds

    async def caller(stub: ForecastServiceStub, first: int) -> None:
        number = first
        while time.monotonic() < end:
            if not await _ask(stub, number, size, answers):
                await asyncio.sleep(PAUSE_SECONDS)
            number += concurrency

    async def run() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            stub = ForecastServiceStub(channel)
            await asyncio.gather(*(caller(stub, first) for first in range(concurrency)))

    asyncio.run(run())
    return answers


def open_loop(target: str, rate: float, size: int, seconds: float) -> Answers:
    """Send `rate` requests a second, in calls of `size`, however long the answers take."""
    answers = Answers()

    async def run() -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            stub = ForecastServiceStub(channel)
            start, sent = time.monotonic(), 0
            calls: set[asyncio.Task[bool]] = set()
            while (elapsed := time.monotonic() - start) < seconds:
                for number in range(sent, int(elapsed * rate / size)):
                    calls.add(task := asyncio.ensure_future(_ask(stub, number, size, answers)))
                    task.add_done_callback(calls.discard)
                sent = int(elapsed * rate / size)
                await asyncio.sleep(0.005)
            await asyncio.gather(*calls)

    asyncio.run(run())
    return answers


def _milliseconds(seconds: list[float], share: float) -> str:
    if not seconds:
        return "-"
    return f"{1e3 * sorted(seconds)[min(int(share * len(seconds)), len(seconds) - 1)]:.1f}"


def _ask_once(target: str) -> float | None:
    """Send a single request on a new connection and return its seconds; None if it fails."""
    time.sleep(PAUSE_SECONDS)
    started = time.monotonic()
    with grpc.insecure_channel(target) as channel:
        try:
            ForecastServiceStub(channel).Forecast(REQUESTS[0], timeout=DEADLINE_SECONDS)
        except grpc.RpcError:
            return None
    return time.monotonic() - started


def _until_calm(target: str, usual_seconds: float) -> float:
    """Return the seconds until the server has recovered; -1 if it takes more than 30.

    It has recovered when `RECOVERED_AFTER` requests in a row took less than three times `usual_seconds`.
    """
    started = time.monotonic()
    in_a_row = 0
    while time.monotonic() - started < 30:
        seconds = _ask_once(target)
        in_a_row = in_a_row + 1 if seconds is not None and seconds < 3 * usual_seconds else 0
        if in_a_row == RECOVERED_AFTER:
            return time.monotonic() - started - RECOVERED_AFTER * (PAUSE_SECONDS + usual_seconds)
    return -1.0


def _overload(server: LocalServer, peak: float, factor: int, size: int, seconds: float, usual: float) -> str:
    target, process = server.target, psutil.Process(server.engine_process_id)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        load = pool.submit(open_loop, target, factor * peak, size, seconds)
        most = 0
        while not load.done():
            most = max(most, process.memory_info().rss)
            time.sleep(0.1)
        answers = load.result()
    recovery = _until_calm(target, usual)
    good, turned_away = answers.seconds.get("OK", []), answers.seconds.get("RESOURCE_EXHAUSTED", [])
    others = {code: len(each) for code, each in answers.seconds.items() if code not in ("OK", "RESOURCE_EXHAUSTED")}
    sent = sum(map(len, answers.seconds.values()))
    return (
        f"| {factor} x | {sent / seconds:.0f} | {len(good) / seconds:.0f} | {len(good) / seconds / peak:.0%} "
        f"| {_milliseconds(good, 0.5)} / {_milliseconds(good, 0.99)} | {len(turned_away) / seconds:.0f} "
        f"| {_milliseconds(turned_away, 0.5)} / {_milliseconds(turned_away, 0.99)} "
        f"| {', '.join(f'{code} {count}' for code, count in others.items()) or '-'} "
        f"| {most / 2**20:.0f} | {recovery:.1f} |"
    )


@click.command()
@click.option("--seconds", default=30.0, show_default=True, help="How long each load lasts.")
@click.option("--requests-a-call", "size", default=1, show_default=True, help="More than one go as a ForecastMany.")
def main(seconds: float, size: int) -> None:
    """Measure and print a Markdown table."""
    server = LocalServer()
    try:
        server.start()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            closed = {
                requests: pool.submit(closed_loop, server.target, -(-requests // size), size, seconds / 3).result()
                for requests in PEAK_CONCURRENCIES
            }
        usual = statistics.median(_ask_once(server.target) or 1.0 for _ in range(20))
        rates = {concurrency: len(each.succeeded_at) / (seconds / 3) for concurrency, each in closed.items()}
        peak = max(rates.values())
        print(f"requests of {VALUES_A_REQUEST} observations and {HORIZON} steps ahead, {SESSIONS} sessions")
        print(f"alone: {1e3 * usual:.1f} ms; closed loop, answers/s: {rates}; peak {peak:.0f}/s")
        memory = psutil.Process(server.engine_process_id).memory_info().rss
        print(f"server's memory before: {memory / 2**20:.0f} MiB; requests a call: {size}\n")
        print(
            "| load | sent/s | in time/s | of peak | their p50 / p99 ms | turned away/s | their p50 / p99 ms "
            "| others | memory MiB | recovered s |\n|---|---|---|---|---|---|---|---|---|---|"
        )
        for factor in FACTORS:
            print(_overload(server, peak, factor, size, seconds, usual), flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
