"""Usage of processes: CPU by the kernel's own clocks, bytes in files and on the loopback."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_CPU_CLOCK = 2
"""The kernel's id of a process's CPU clock; it counts nanoseconds and includes threads that have ended."""


@dataclass(frozen=True)
class Reading:
    """Usage up to one moment.

    Attributes:
        at: The moment, in seconds of time.perf_counter.
        server_seconds: CPU of each process of the server.
        redis_seconds: CPU of Redis.
        client_seconds: CPU of the process that makes the load.
        aof_bytes: Size of the append-only file.
        loopback_bytes: Bytes over the loopback, including headers and other programs.
        machine_seconds: CPU of everything on the machine and time stolen by its host, in the kernel's ticks.
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
    """The processes and files of one system; Redis does not count as part of the server, even as its child process.

    Attributes:
        server: Process id of the server, which is watched with all its descendants.
        redis: Process id of its Redis; None if it has none.
        aof: Folder of the append-only file; None if it has none.
    """

    server: int
    redis: int | None = None
    aof: Path | None = None

    def read(self) -> Reading:
        """Read the usage up to now."""
        server = {pid: cpu_seconds(pid) for pid in process_tree(self.server) if pid != self.redis}
        redis = cpu_seconds(self.redis) if self.redis else 0.0
        aof = folder_bytes(self.aof) if self.aof else 0
        busy = _machine_seconds()
        return Reading(time.perf_counter(), server, redis, time.process_time(), aof, _loopback_bytes(), busy)

    def memory_bytes(self) -> int:
        """Return the resident memory of the server's processes, in bytes."""
        pids = [pid for pid in process_tree(self.server) if pid != self.redis]
        return sum(int(psutil.Process(pid).memory_info().rss) for pid in pids)


def server_seconds(before: Reading, after: Reading) -> float:
    """Return the server's CPU between two readings, in seconds."""
    return sum(seconds - before.server_seconds.get(pid, 0.0) for pid, seconds in after.server_seconds.items())


def other_cores(before: Reading, after: Reading) -> float:
    """Return the number of cores that other processes kept busy between two readings."""
    own = server_seconds(before, after) + after.redis_seconds - before.redis_seconds
    own += after.client_seconds - before.client_seconds
    return max(0.0, (after.machine_seconds - before.machine_seconds - own) / (after.at - before.at))


def cpu_seconds(pid: int) -> float:
    """Return the CPU of a process with all its threads, in seconds; 0 if there is no such process."""
    try:
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK)
    except OSError:
        return 0.0


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def folder_bytes(folder: Path) -> int:
    """Return the total size of the files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _loopback_bytes() -> int:
    counters = psutil.net_io_counters(pernic=True).get("lo")
    return int(counters.bytes_recv) if counters else 0


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
