"""`statecast redis check` says what a server's start would, and everything at once."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.redis_process import RedisProcess

from statecast.service.cli.main import main
from statecast.service.errors import StartupError
from statecast.service.store.connection import connect
from statecast.service.store.requirements import acl_rule, require

CHECKS = ["reachable", "version", "kind", "rights", "scripts", "eviction", "append-only file", "memory limit"]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "NAMESPACE", "REDIS_PASSWORD_FILE", "ALLOW_VOLATILE_REDIS"):
        monkeypatch.delenv(f"STATECAST_{name}", raising=False)


def check(*arguments: str) -> Result:
    done = CliRunner().invoke(main, ["redis", "check", *arguments])
    assert "secret" not in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done


def results(*arguments: str) -> dict[str, str]:
    """Return the result of each check; the exit status says if a server would start."""
    done = check(*arguments, "--output", "json")
    found = {each["check"]: each["result"] for each in json.loads(done.stdout)}
    assert done.exit_code == ("missing" in found.values())
    return found


def starts(url: str, *, allow_volatile: bool = False) -> bool:
    try:
        require(connect(url, 1.0), url, "statecast", allow_volatile=allow_volatile)
    except StartupError:
        return False
    return True


def test_any_usual_redis_will_do(every_redis: RedisProcess) -> None:
    done = check(every_redis.url)
    assert done.exit_code == 0, done.output
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == CHECKS
    assert all(line.split("  ", 1)[1].strip().startswith("ok ") for line in done.stdout.splitlines())
    assert done.stderr == "a server would start on this Redis\n"
    assert not list(every_redis.client.scan_iter("statecast*"))


def test_all_problems_are_found_at_once(own_redis: RedisProcess) -> None:
    own_redis.client.config_set("maxmemory-policy", "allkeys-lru")
    own_redis.client.config_set("appendonly", "no")
    own_redis.set_user("server", "on", ">secret", "resetkeys", "-@all", *acl_rule("statecast").split(), "-append")
    url = f"unix://server:secret@{own_redis.socket}"
    assert results(url) == {
        "reachable": "ok", "version": "ok", "kind": "ok", "rights": "missing", "scripts": "not tried",
        "eviction": "missing", "append-only file": "missing", "memory limit": "ok",
    }  # fmt: skip
    done = check(url)
    assert "does not let this user run APPEND" in done.stdout
    assert f"\n  ACL SETUSER server {acl_rule('statecast')}\n" in done.stdout
    assert done.stderr.endswith("would not start on this Redis; fix: rights, eviction, append-only file\n")
    with pytest.raises(StartupError) as caught:
        require(connect(url, 1.0), url, "statecast", allow_volatile=False)
    for problem in ("does not let this user run APPEND", "maxmemory-policy allkeys-lru", "keeps no append-only file"):
        assert problem in str(caught.value)


def test_the_acl_line_is_enough(own_redis: RedisProcess) -> None:
    own_redis.set_user("server", "on", ">secret", "resetkeys", "-@all", "+ping")
    url = f"unix://server:secret@{own_redis.socket}"
    done = check(url)
    assert done.exit_code == 1
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("  ACL SETUSER "))
    own_redis.client.execute_command(*line.split())  # type: ignore[no-untyped-call]
    assert check(url).exit_code == 0
    assert starts(url)


def test_a_volatile_redis_may_be_allowed(own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    own_redis.client.config_set("appendonly", "no")
    assert results(own_redis.url)["append-only file"] == "missing"
    assert results(own_redis.url, "--allow-volatile")["append-only file"] == "warning"
    assert starts(own_redis.url, allow_volatile=True)
    monkeypatch.setenv("STATECAST_ALLOW_VOLATILE_REDIS", "1")
    assert check(own_redis.url).exit_code == 0


def test_the_variables_of_the_server_count(own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    own_redis.set_user("server", "on", ">secret", "resetkeys", "-@all", *acl_rule("other").split())
    password = own_redis.folder / "password"
    password.write_text("secret\n")
    monkeypatch.setenv("STATECAST_REDIS_URL", f"unix://server@{own_redis.socket}")
    monkeypatch.setenv("STATECAST_REDIS_PASSWORD_FILE", str(password))
    done = check()
    assert "access the keys statecast:*" in done.stdout
    monkeypatch.setenv("STATECAST_NAMESPACE", "other")
    assert check().exit_code == 0


def test_a_replica_is_named(own_redis: RedisProcess) -> None:
    own_redis.client.replicaof("127.0.0.1", "1")
    found = results(own_redis.url, "--allow-volatile")
    assert (found["kind"], found["rights"], found["scripts"]) == ("missing", "ok", "not tried")
    assert not starts(own_redis.url, allow_volatile=True)
    assert "is a read-only replica; use its primary" in check(own_redis.url).stdout


def test_memory_that_is_almost_full_is_a_warning(own_redis: RedisProcess) -> None:
    own_redis.client.config_set("maxmemory", str(2**30))
    assert results(own_redis.url)["memory limit"] == "ok"
    used: int = own_redis.client.info("memory")["used_memory"]
    own_redis.client.config_set("maxmemory", str(int(used * 1.05)))
    assert results(own_redis.url)["memory limit"] == "warning"


def test_a_full_redis_keeps_no_sessions(own_redis: RedisProcess) -> None:
    own_redis.client.config_set("maxmemory", "1")
    found = results(own_redis.url)
    assert "missing" in found.values()
    assert not starts(own_redis.url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://user:secret@127.0.0.1:1/0", "cannot be reached: Error 111 connecting to 127.0.0.1:1"),
        ("localhost:6379", "for a Redis at localhost:6379, write redis://localhost:6379"),
        ("redis://:secret#@localhost", "redis-url is not valid"),
    ],
)
def test_a_redis_that_cannot_be_reached_is_named(url: str, says: str) -> None:
    done = check(url)
    assert done.exit_code == 1
    assert says in done.output


def test_a_password_is_asked_for_and_never_shown(own_redis: RedisProcess, tmp_path: Path) -> None:
    own_redis.client.config_set("requirepass", "secret")
    done = check(own_redis.url)
    assert (done.exit_code, "requires a password" in done.stdout) == (1, True)
    assert "rejects this user and password" in check(f"unix://:secret-but-wrong@{own_redis.socket}").stdout
    assert check(f"unix://:secret@{own_redis.socket}").exit_code == 0
    says = check(own_redis.url, "--password-file", str(tmp_path / "missing")).stderr
    assert says.startswith(f"Error: --password-file: {tmp_path / 'missing'} cannot be read")


def test_a_namespace_with_a_colon_is_refused(own_redis: RedisProcess) -> None:
    done = check(own_redis.url, "--namespace", "a:b")
    assert (done.exit_code, "must not contain a colon" in done.stderr) == (1, True)
