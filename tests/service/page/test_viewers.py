"""Viewers are few, cost one look between them, and cost nothing once they have left or do not read."""

import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from support import await_true
from support.looking import Looking
from support.redis_process import RedisProcess
from support.scraping import issue
from support.servers import ServerThread

from statecast.client import Client
from statecast.service import metrics_endpoint
from statecast.service.access.principal import ANYBODY, principal_of
from statecast.service.errors import Overloaded
from statecast.service.models.registry import load_registry
from statecast.service.page import site
from statecast.service.page.follower import View
from statecast.service.page.watcher import Watcher
from statecast.service.settings import Settings
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Store, Stored

ACME, OTHER = principal_of("acme", "read", "a"), principal_of("other", "read", "b")


class Counted(Store):
    """A store that counts the records that it reads."""

    read = 0

    def load(self, session_keys: Sequence[str]) -> list[Stored | None]:
        self.read += len(session_keys)
        return super().load(session_keys)


@pytest.fixture
def store(any_redis: RedisProcess, namespace: str) -> Counted:
    return Counted(connect(any_redis.url, 5.0, None), namespace)


@pytest.fixture
def watcher(store: Counted, page_models: Path) -> Iterator[Watcher]:
    watcher = Watcher(store, load_registry(page_models, "base", torch.device("cpu")), 4)
    watcher.start()
    yield watcher
    watcher.stop()


def step_of(view: View | None) -> int:
    return view.standing.version.step if view and view.standing else 0


def test_a_session_is_read_once_for_all_its_viewers_and_only_when_it_has_moved(
    watcher: Watcher, store: Counted, client: Client, session_id: str
) -> None:
    session = client.session(session_id, model="tiny")
    session.observe([1.0, 2.0])
    viewers = [watcher.enter(session_id, ANYBODY) for _ in range(4)]
    seen = [watcher.wait(viewer, 0, 20.0) for viewer in viewers]
    assert {(view.standing.version.step, serial) for view, serial in seen if view and view.standing} == {(2, 1)}
    read = store.read
    assert read <= 2  # a viewer may have come during the first look
    assert watcher.wait(viewers[0], 1, 2.5) == (None, 1)
    assert store.read == read
    for value in range(20):
        session.observe([float(value)])
    await_true(lambda: step_of(viewers[0].watch.view) == 22)
    assert store.read < read + 10


def test_there_is_room_for_few_and_for_each_tenant_for_half_of_them(watcher: Watcher) -> None:
    entered = [watcher.enter("a", ACME), watcher.enter("b", ACME)]
    with pytest.raises(Overloaded, match="2 of them of your tenant"):
        watcher.enter("c", ACME)
    entered += [watcher.enter("c", OTHER), watcher.enter("c", OTHER)]
    with pytest.raises(Overloaded, match="4 viewers"):
        watcher.enter("c", ANYBODY)
    for viewer in entered:
        watcher.leave(viewer)
        watcher.leave(viewer)
    assert watcher.viewers == 0
    watcher.leave(watcher.enter("c", ACME))


@pytest.fixture(scope="module")
def crowded(any_redis: RedisProcess) -> Iterator[Looking]:
    server = ServerThread(Settings(redis_url=any_redis.url, namespace="crowded", page=True, page_viewers=3))
    yield Looking(server)
    server.stop()


def names_of(looking: Looking, viewers: int) -> list[str]:
    """Return the first event of each of so many viewers at once."""
    with ExitStack() as stack:
        following = [stack.enter_context(looking.following("nobody")) for _ in range(viewers)]
        return [next(each.events())[0] for each in following]


def test_one_too_many_is_refused_and_one_that_leaves_makes_room(crowded: Looking) -> None:
    for _ in range(2):
        await_true(lambda: names_of(crowded, 4) == ["view"] * 3 + ["refused"])


def test_one_that_does_not_read_holds_up_nobody(
    looking: Looking, client: Client, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_endpoint, "REQUEST_SECONDS", 0.5)
    session = client.session(session_id, model="tiny")
    session.observe([1.0])
    with looking.following(session_id) as slow, looking.following(session_id) as quick:
        slow.connection.setsockopt(6, 10, 1)  # reads nothing from now on
        assert quick.view()["step"] == 1
        started = time.monotonic()
        session.observe([2.0])
        assert quick.view_at(2)
        assert time.monotonic() - started < 10


def test_over_tls_one_stays_and_sees_what_another_server_has_taken(
    client: Client, session_id: str, any_redis: RedisProcess, page_models: Path, tmp_path: Path, namespace: str
) -> None:
    session = client.session(session_id, model="tiny")
    session.observe([1.0])
    issue(tmp_path, "page")
    settings = Settings(
        redis_url=any_redis.url, namespace=namespace, models=page_models, page=True,
        tls_cert=tmp_path / "page.crt", tls_key=tmp_path / "page.key",
    )  # fmt: skip
    server = ServerThread(settings)
    context = ssl.create_default_context(cafile=str(tmp_path / "page.crt"))
    with Looking(server).following(session_id, context=context) as following:
        assert following.view()["step"] == 1
        time.sleep(5 * site.LOOK_SECONDS)  # the server looks several times whether the viewer is still there
        session.observe([2.0])
        assert following.view_at(2)
    server.stop()
