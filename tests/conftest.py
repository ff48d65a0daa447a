"""Fixtures of all suites; every Redis is private, and every server is real."""

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from support import short_folder
from support.models import write_models
from support.redis_cluster import RedisCluster
from support.redis_process import RedisProcess, binary_of, redis_binaries
from support.servers import ServerThread

from statecast.model.kernels.cache import KernelCache
from statecast.service.settings import Settings

torch.set_num_threads(1)
# Kernels check every index, in servers, too: beyond an array lies another session's memory.
os.environ["NUMBA_BOUNDSCHECK"] = "1"
# Servers that tests start compile the modules once, not each of them again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
KERNELS = "kernel_folder"
"""The fixture."""
KERNEL_FOLDER = Path(__file__).parents[1] / ".pytest_cache" / "statecast" / "kernels"
_builds: "list[subprocess.Popen[bytes]]" = []
# How long a test takes depends on what else the machine does.
settings.register_profile("statecast", deadline=None)
settings.load_profile("statecast")


STARTING = {"server", "any_redis", "own_redis", "every_redis", "redis_cluster"}
"""Fixtures that start a process or a server."""
STARTERS = (
    "bench", "client/test_connection", "client/test_credentials", "client/test_loops_and_processes",
    "client/test_recovery", "client/test_retries", "client/test_several_replicas", "client/test_streams",
    "client/test_token_functions",
    "client/test_typing", "examples", "fuzz", "mutants", "proto", "service/access/test_every_rpc",
    "service/access/test_tls", "service/cli", "service/demo", "service/envoy", "service/transport",
    "service/store/test_cluster", "service/store/test_embedded", "service/store/test_requirements",
    "service/store/test_sentinels", "service/test_",
    "test_packaging", "test_training_page", "testing", "torture",
)  # fmt: skip
"""Folders and files whose tests start processes or servers themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes or servers, so that `make test-fast` can leave them out."""
    here = Path(__file__).parent
    # Those that need compiled kernels come last, since to compile them takes a while.
    items.sort(key=lambda item: KERNELS in getattr(item, "fixturenames", ()))
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if STARTING & fixtures or item.path.relative_to(here).as_posix().startswith(STARTERS):
            item.add_marker(pytest.mark.servers)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to compile the kernels, in one process, if a test needs them."""
    is_one = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if is_one and any(KERNELS in getattr(item, "fixturenames", ()) for item in session.items):
        _builds.append(build_kernels())


def build_kernels() -> "subprocess.Popen[bytes]":
    """Start to compile the kernels, unless they are there; the process ends early with this one."""
    KERNEL_FOLDER.parent.mkdir(parents=True, exist_ok=True)
    return KernelCache(KERNEL_FOLDER).start_build(is_waited_for=True)


def pytest_configure() -> None:
    """Make SIGHUP and SIGINT end the processes that tests start, even if the tests ignore them, as under nohup.

    A new process inherits the signals that its parent ignores, but not the parent's handlers.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session", params=list(redis_binaries().values()), ids=list(redis_binaries()))
def every_redis(request: pytest.FixtureRequest) -> Iterator[RedisProcess]:
    """Run a private Redis of every available kind, one after the other."""
    with short_folder() as folder:
        process = RedisProcess(request.param, folder)
        yield process
        process.stop()


@pytest.fixture(scope="session")
def any_redis() -> Iterator[RedisProcess]:
    """Run a private Redis for all tests, which use different namespaces or session names."""
    with short_folder() as folder:
        process = RedisProcess(next(iter(redis_binaries().values())), folder)
        yield process
        process.stop()


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """Run a private Redis that a test may kill."""
    with short_folder() as folder:
        process = RedisProcess(next(iter(redis_binaries().values())), folder)
        yield process
        process.stop()


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """Run a private cluster; a test that stops nodes must wait until it is well again."""
    with short_folder() as folder:
        cluster = RedisCluster(binary_of("redis"), folder)
        yield cluster
        cluster.stop()


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a models folder with the tiny models."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerThread]:
    """Run a server for all tests, which use different session names."""
    thread = ServerThread(Settings(redis_url=any_redis.url, models=models_folder, namespace="shared", tenant_metrics=1))
    yield thread
    thread.stop()


@pytest.fixture(scope="session")
def kernel_folder() -> Path:
    """Return a folder of compiled kernels, which all processes of this run and later ones share."""
    built = build_kernels()
    assert built.stderr is not None
    told = built.stderr.read()
    assert built.wait() == 0, told
    return KERNEL_FOLDER


@pytest.fixture
def session_id() -> str:
    """Return a session name that no other test uses."""
    return uuid.uuid4().hex
