"""A server with the page, and models of every kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.looking import Looking
from support.models import imported_folder, write_rich_models
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client
from statecast.service.page import directory, site, watcher
from statecast.service.settings import Settings


@pytest.fixture(scope="package")
def namespace() -> str:
    """Return the namespace of the server's keys."""
    return "looked-at"


@pytest.fixture(scope="package")
def snapshot_every() -> int:
    """Return after how many observations the server rewrites a record."""
    return 8


@pytest.fixture(scope="package")
def page_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write models of every kind; one has a card."""
    folder = write_rich_models(tmp_path_factory.mktemp("page-models"))
    imported_folder(folder, "pump")
    imported_folder(folder, "valve", stateful=True, covariates=("price",), rollout=3, scale=[(20.0, 4.0), (1.0, 1.0)])
    (folder / "shop" / "1" / "README.md").write_text(
        "# shop version 1\n\nForecasts **shops** by `hour`.\n\n- <script>alert(1)</script>\n\n"
        "| | SQL |\n|---|---|\n| shop | 0.61 |\n"
    )
    return folder


@pytest.fixture(scope="package")
def page_server(
    any_redis: RedisProcess, page_models: Path, namespace: str, snapshot_every: int
) -> Iterator[ServerThread]:
    settings = Settings(
        redis_url=any_redis.url, models=page_models, namespace=namespace, page=True, page_viewers=48,
        snapshot_every=snapshot_every,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watcher, "LOOK_SECONDS", 0.2)
        patch.setattr(site, "LOOK_SECONDS", 0.2)
        patch.setattr(directory, "FRESH_SECONDS", 0.05)
        thread = ServerThread(settings)
        yield thread
        thread.stop()


@pytest.fixture(scope="package")
def looking(page_server: ServerThread) -> Looking:
    return Looking(page_server)


@pytest.fixture(scope="package")
def client(page_server: ServerThread) -> Iterator[Client]:
    with Client(page_server.target) as client:
        yield client
