"""What processes have used so far: CPU by the kernel's own clocks, bytes of files and of the loopback."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_CPU_CLOCK = 2
"""The kernel's number for a process's clock of scheduled time, in nanoseconds and with threads that have ended."""


@dataclass(frozen=True)
class Reading:
    """What had been used at one moment.

    Attributes:
        at: The moment, in seconds of time.perf_counter.
        server_seconds: CPU of each process of the server.
        redis_seconds: CPU of Redis.
        client_seconds: CPU of the process that makes the load.
        aof_bytes: Size of the append-only file.
        loopback_bytes: What went over the loopback, headers and other programs included.
        machine_seconds: CPU of everything on the machine, and what its host took away; read in the kernel's ticks.
    """

    at: float
    server_seconds: Mapping[int, float]
    redis_seconds: float
    client_seconds: float
    aof_bytes: int
    loopback_bytes: int
    machine_seconds: float


@dataclass(frozen=True)
class Watched:
    """The processes and files of one system; Redis, if there is one, is not part of the server even if its child.

    Attributes:
        server: Process id of the server, which is watched with all its descendants.
        redis: Process id of its Redis.
        aof: Folder of the append-only file.
    """

    server: int
    redis: int | None = None
    aof: Path | None = None

    def read(self) -> Reading:
        """What has been used until now."""
        server = {pid: cpu_seconds(pid) for pid in process_tree(self.server) if pid != self.redis}
        redis = cpu_seconds(self.redis) if self.redis else 0.0
        aof = folder_bytes(self.aof) if self.aof else 0
        busy = _machine_seconds()
        return Reading(time.perf_counter(), server, redis, time.process_time(), aof, _loopback_bytes(), busy)

    def memory_bytes(self) -> int:
        """Resident memory of the server's processes."""
        pids = [pid for pid in process_tree(self.server) if pid != self.redis]
        return sum(int(psutil.Process(pid).memory_info().rss) for pid in pids)


def server_seconds(before: Reading, after: Reading) -> float:
    """CPU of the server between two readings, in seconds."""
    return sum(seconds - before.server_seconds.get(pid, 0.0) for pid, seconds in after.server_seconds.items())


def other_cores(before: Reading, after: Reading) -> float:
    """How many cores something else was using between two readings."""
    own = server_seconds(before, after) + after.redis_seconds - before.redis_seconds
    own += after.client_seconds - before.client_seconds
    return max(0.0, (after.machine_seconds - before.machine_seconds - own) / (after.at - before.at))


def cpu_seconds(pid: int) -> float:
    """CPU that a process has used with all its threads, in seconds; 0 if there is none of that id."""
    try:
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK)
    except OSError:
        return 0.0


def process_tree(pid: int) -> list[int]:
    """A process and its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _loopback_bytes() -> int:
    counters = psutil.net_io_counters(pernic=True).get("lo")
    return int(counters.bytes_recv) if counters else 0


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
