"""Shares of the server's CPU time by part and mode, from py-spy samples: python -m bench.shares.

The extra `bench` installs py-spy. Threads that wait are left out.
"""

import subprocess
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click
from bench.compare import loads
from bench.compare.loop import Pace
from bench.compare.models import plain_config, write_models
from bench.compare.names import PLAIN
from bench.compare.servers import serve
from bench.compare.sizes import CATCH_UP_STEPS, CONCURRENCIES, FRAME_SESSIONS, NORMAL
from bench.compare.stages import loading

RATE = 250
WARM_SECONDS, START_SECONDS = 3.0, 4.0
"""Warm-up before a load is sampled, and time allowed for the load to start."""
PARTS: Mapping[str, Sequence[str]] = {
    "loads and commits": ("(redis/", "service/store/redis_store.py", "service/store/scripts.py"),
    "entries, snapshots": ("service/store/record.py", "service/engine/write.py"),
    "states in memory": ("service/engine/session_cache.py",),
    "forecast": ("service/engine/forecasts.py",),
    "observation": ("Forecaster.advance",),
    "decide": ("service/engine/decide.py", "service/engine/plan.py"),
    "counters": ("service/engine/counters.py", "service/metrics.py", "(prometheus_client/"),
    "requests, answers": ("service/rpc/",),
    "queue, batches": ("service/engine/",),
    "gRPC, event loop": ("(asyncio/", "(grpc/"),
}
"""Parts of the server and their places in the code; a sample belongs to the first part with a place on its stack."""
_WAITING = ("Condition.wait ", "EpollSelector.select ", "_PollLikeSelector.select ")
_ALWAYS_WAITING = "(_poll_wrapper)"
"""The thread in which grpc.aio waits for its sockets; py-spy cannot see that it waits."""


def shares(samples: Iterable[str]) -> dict[str, float]:
    """Return each part's share of the samples; the sum is below 1 if some belong to none of `PARTS`.

    Args:
        samples: Lines of py-spy with `--format raw --threads`: thread and frames, outermost first, and the count.
    """
    found: Counter[str] = Counter()
    for sample in samples:
        stack, _, count = sample.rpartition(" ")
        thread, *frames = stack.split(";")
        if frames and not frames[-1].startswith(_WAITING) and _ALWAYS_WAITING not in thread:
            found[_part(stack)] += int(count)
    total = found.total()
    return {part: found[part] / total for part in PARTS if total}


def _part(stack: str) -> str:
    return next((part for part, places in PARTS.items() if any(place in stack for place in places)), "")


def modes(target: str) -> dict[str, loads.Load]:
    """Return the loads, by the name of their mode."""
    groups = NORMAL.groups
    return {
        "a call each, 1": loads.Unary(target, "one", 1, PLAIN),
        "a call each, 64": loads.Unary(target, "many", 64, PLAIN),
        "`AsyncClient`, 256": loads.Client(target, "client", max(CONCURRENCIES), PLAIN),
        "frames": loads.Frames(target, "frames", groups, FRAME_SESSIONS, PLAIN),
        "observe only": loads.Frames(target, "observe", groups, FRAME_SESSIONS, PLAIN, horizon=0),
        "catch-up": loads.Unary(target, "catch-up", 1, PLAIN, CATCH_UP_STEPS),
    }


def shares_of(process_id: int, seconds: float, output: Path) -> dict[str, float]:
    """Sample a process for `seconds` and return its shares."""
    py_spy = Path(sysconfig.get_path("scripts")) / "py-spy"
    command = [str(py_spy), "record", "--pid", str(process_id), "--duration", f"{seconds:.0f}", "--rate", str(RATE)]
    command += ["--format", "raw", "--threads", "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    return shares(output.read_text().splitlines())


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), default=10, show_default=True, help="Of samples of each mode.")
def main(seconds: int) -> None:
    """Print, for each mode, what share of the server's CPU its parts have, as a Markdown table."""
    columns: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="statecast-shares-") as name:
        folder = Path(name)
        models = write_models(folder / "models", plain_config())
        with serve(models, PLAIN, "grpc") as server, loading() as pool:  # in a process that py-spy can read
            for mode, load in modes(server.target).items():
                pace = Pace(WARM_SECONDS, START_SECONDS + seconds)
                measured = pool.submit(loads.run, load, pace, server.watched)
                time.sleep(WARM_SECONDS + START_SECONDS / 2)
                columns[mode] = shares_of(server.watched.server, seconds, folder / "samples.txt")
                measured.result()
    click.echo("| % | " + " | ".join(columns) + " |")
    click.echo("|---|" + "---|" * len(columns))
    for part in PARTS:
        click.echo(f"| {part} | " + " | ".join(f"{100 * column[part]:.0f}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
