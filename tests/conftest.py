"""Fixtures of all suites: every Redis is private, every server is real."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import short_folder
from support.models import write_models
from support.redis_process import RedisProcess, redis_binaries
from support.servers import ServerThread

from statecast.service.settings import Settings

torch.set_num_threads(1)


STARTING = {"server", "any_redis", "own_redis", "every_redis"}
"""Fixtures that start a process or a server."""
STARTERS = (
    "bench", "client/test_loops_and_processes", "client/test_re", "client/test_streaming", "client/test_typing",
    "examples", "fuzz", "mutants", "proto", "service/cli", "service/demo", "service/edge",
    "service/store/test_embedded", "service/store/test_requirements", "service/test_",
    "test_packaging", "test_training_page", "testing", "torture",
)  # fmt: skip
"""Folders and files whose tests start some themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes or servers, so that `make test-fast` can leave them out."""
    here = Path(__file__).parent
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if STARTING & fixtures or item.path.relative_to(here).as_posix().startswith(STARTERS):
            item.add_marker(pytest.mark.servers)


def pytest_configure() -> None:
    """Let signals end the processes that tests start, also if they do not end the tests: under nohup, in a background.

    What a process ignores, those that it starts ignore, too; what it handles has its default effect on them.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session", params=list(redis_binaries().values()), ids=list(redis_binaries()))
def every_redis(request: pytest.FixtureRequest) -> Iterator[RedisProcess]:
    """One private Redis after the other, of every kind that is here."""
    with short_folder() as folder:
        process = RedisProcess(request.param, folder)
        yield process
        process.stop()


@pytest.fixture(scope="session")
def any_redis() -> Iterator[RedisProcess]:
    """A private Redis that the whole run shares; tests keep apart by namespace or session name."""
    with short_folder() as folder:
        process = RedisProcess(next(iter(redis_binaries().values())), folder)
        yield process
        process.stop()


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """A private Redis that a test may kill."""
    with short_folder() as folder:
        process = RedisProcess(next(iter(redis_binaries().values())), folder)
        yield process
        process.stop()


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny models in it."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerThread]:
    """A server that the whole run shares; tests keep apart by session name."""
    thread = ServerThread(Settings(redis_url=any_redis.url, models=models_folder, namespace="shared"))
    yield thread
    thread.stop()


@pytest.fixture
def session_id() -> str:
    """A session name that no other test uses."""
    return uuid.uuid4().hex
