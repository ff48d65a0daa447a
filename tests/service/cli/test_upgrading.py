"""`statecast sessions upgrade` and `statecast models alias|policy|retire`, on two real servers of one Redis."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import await_true
from support.models import tiny_model
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client, NotFound, Unavailable
from statecast.model import save_model
from statecast.service.cli.main import main
from statecast.service.settings import Settings

NAMESPACE = "upgrading"


@dataclass
class Place:
    """A server with its models folder, and a replica."""

    folder: Path
    server: ServerThread
    replica: ServerThread
    client: Client

    def run(self, *arguments: str) -> Result:
        group, name, *others = arguments
        return CliRunner().invoke(main, [group, name, "--target", self.server.target, *others])

    def opened(self, *names: str, model: str = "tiny", version: str = "1") -> None:
        for name in names:
            self.client.session(name, model, model_version=version).observe([1.0, 2.0, 3.0])

    def version_of(self, name: str) -> str:
        return self.client.session(name).info().model_version


@pytest.fixture(scope="module")
def place(any_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("upgrading")
    for version in ("1", "2", "10"):
        save_model(tiny_model(version=version, seed=int(version)), folder / "tiny" / version)
    settings = Settings(
        redis_url=any_redis.url, models=folder, namespace=NAMESPACE, default_model="tiny", models_poll_seconds=0.1
    )
    servers = ServerThread(settings), ServerThread(settings)
    with Client(servers[0].target) as client:
        yield Place(folder, *servers, client)
    for server in servers:
        server.stop()


def test_sessions_are_upgraded_by_id_or_prefix(place: Place) -> None:
    place.opened("u-1", "u-2", "u-3", "other")
    done = place.run("sessions", "upgrade", "u-1", "--model", "2")
    assert (done.exit_code, done.stdout) == (0, "u-1 is on tiny version 2 (exactly, 3 steps re-encoded)\n")
    asked = place.run("sessions", "upgrade", "--prefix", "u-", "--model", "tiny:2")
    assert (asked.exit_code, "add --yes to upgrade 2 sessions whose id begins with 'u-'" in asked.stderr) == (2, True)
    done = place.run("sessions", "upgrade", "--prefix", "u-", "--model", "tiny:2", "--yes", "--output", "json")
    found = {each["session_id"]: each for each in json.loads(done.stdout)}
    assert set(found) == {"u-2", "u-3"}
    assert found["u-2"]["reencoded_steps"] == 3
    assert [place.version_of(name) for name in ("u-1", "u-2", "u-3", "other")] == ["2", "2", "2", "1"]
    place.run("sessions", "upgrade", "--prefix", "u-", "--yes")
    assert place.version_of("u-3") == "10"


def test_what_cannot_be_upgraded_is_said(place: Place) -> None:
    place.opened("w-1")
    place.opened("w-2", model="base", version="")
    done = place.run("sessions", "upgrade", "w-1", "w-none", "--model", "2")
    assert done.exit_code == 1
    assert "w-1 is on tiny version 2" in done.stdout
    assert "there is no session 'w-none'" in done.stderr
    assert "1 of 2 sessions could not be upgraded; they are as they were" in done.stderr
    done = place.run("sessions", "upgrade", "w-1", "--model", "nothing")
    assert (done.exit_code, "no model and no version 'nothing'" in done.stderr) == (2, True)
    done = place.run("sessions", "upgrade", "w-1", "--prefix", "w-")
    assert (done.exit_code, "either by ID, or with --prefix" in done.stderr) == (2, True)


def test_an_alias_moves_sessions_on_all_servers(place: Place) -> None:
    done = place.run("models", "alias", "tiny@live", "1")
    assert (done.exit_code, done.stdout) == (0, "tiny@live points to version 1\n")
    with Client(place.replica.target) as other:
        await_true(lambda: "live" in other.model("tiny", "1").aliases)
        assert other.model("tiny@live").version == "1"
        session = other.session("aliased", "tiny@live")
        session.observe([1.0, 2.0])
        assert place.client.session("aliased").info().alias == "live"
        done = place.run("models", "alias", "tiny@live", "2")
        assert done.stdout == "tiny@live points to version 2; before, it pointed to 1\n"
        place.client.session("aliased", "tiny@live").observe(3.0)
        assert session.observe(4.0).version.step == 4  # whether or not its server has read the alias yet
        assert session.info().model_version == "2"
    shown = json.loads(place.run("models", "show", "tiny", "2", "--output", "json").stdout)
    assert (shown["aliases"], shown["policy"], shown["retired"]) == (["live"], "pin", False)
    for wrong, says in (
        (("tiny@live", "7"), "model 'tiny' has no version '7'; it has: 1, 2, 10"),
        (("tiny@no blanks", "1"), "must be 1 to 64 letters, digits and . _ + -"),
        (("tiny", "1"), "write NAME@ALIAS"),
        (("tiny@live",), "or --remove"),
    ):
        done = place.run("models", "alias", *wrong)
        assert done.exit_code in (1, 2)
        assert says in done.stderr
    done = place.run("models", "alias", "tiny@live", "--remove")
    assert done.stdout == "tiny@live is removed; before, it pointed to 2\n"
    assert session.id
    with pytest.raises(NotFound, match="has no alias 'live'"):
        place.client.session("new", "tiny@live").observe(1.0)


def test_sessions_follow_a_model_to_a_version_that_comes(place: Place) -> None:
    place.opened("follower", version="")
    assert place.version_of("follower") == "10"
    done = place.run("models", "policy", "tiny", "follow")
    assert done.stdout == "the policy of tiny is follow; before, it was pin\n"
    place.opened("pinned", version="2")
    save_model(tiny_model(version="11", seed=11), place.folder / "tiny" / "11")
    await_true(lambda: place.client.model("tiny").version == "11")
    assert place.client.session("follower").observe(4.0).version.step == 4
    assert (place.version_of("follower"), place.version_of("pinned")) == ("11", "2")
    assert 'statecast_upgrades_total{model="tiny",model_version="11"} 1.0' in metrics(place.server)
    assert place.run("models", "policy", "tiny", "sometimes").exit_code == 1
    assert "has no alias 'none'" in place.run("models", "policy", "tiny", "@none").stderr
    place.run("models", "policy", "tiny", "pin")


def metrics(server: ServerThread) -> str:
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_a_version_is_retired_once_no_session_stands_on_it(place: Place) -> None:
    save_model(tiny_model(version="3", seed=3), place.folder / "tiny" / "3")
    await_true(lambda: "3" in {each.version for each in place.client.models()})
    place.opened("r-1", "r-2", version="3")
    done = place.run("models", "retire", "tiny", "3")
    assert done.exit_code == 1
    assert "2 sessions stand on version '3' of model 'tiny'; move them to another" in done.stderr
    place.client.session("r-1", resume_only=True).close()
    place.run("sessions", "upgrade", "r-2", "--model", "2")
    place.run("models", "alias", "tiny@old", "3")
    assert "alias 'old' points to version '3'" in place.run("models", "retire", "tiny", "3").stderr
    place.run("models", "alias", "tiny@old", "--remove")
    assert place.run("models", "retire", "tiny", "3").stdout == "tiny version 3 is retired\n"
    assert place.run("models", "retire", "tiny", "3").stdout == "tiny version 3 was retired already\n"
    with Client(place.replica.target) as other, pytest.raises(NotFound, match="is retired"):
        other.session("r-3", "tiny", model_version="3").observe(1.0)
    assert place.run("models", "retire", "tiny", "3", "--undo").stdout == "tiny version 3 is in use\n"
    place.opened("r-3", version="3")
    assert "does not have version '77'" in place.run("models", "retire", "tiny", "77").stderr


def test_a_server_says_how_many_sessions_stand_on_versions_that_it_lacks(
    place: Place, any_redis: RedisProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.opened("s-1", "s-2", version="1")
    shutil.copytree(place.folder / "tiny" / "2", tmp_path / "tiny" / "2")
    server = ServerThread(Settings(redis_url=any_redis.url, models=tmp_path, namespace=NAMESPACE, default_model="tiny"))
    try:
        await_true(lambda: "stand on model versions that this server does not have" in caplog.text)
        assert "tiny 1: " in caplog.text
        assert 'statecast_sessions_stranded{model="tiny",model_version="1"}' in metrics(server)
        with Client(server.target, timeout_seconds=1) as client:
            assert client.session("s-1").upgrade(model_version="2").reencoded_steps == 3
            place.opened("newer", version="10")
            with pytest.raises(Unavailable) as caught:
                client.session("newer").observe(1.0)
            assert caught.value.reason == "MODEL_LOADING"
    finally:
        server.stop()
