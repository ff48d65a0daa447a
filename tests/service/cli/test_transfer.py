"""`statecast sessions export` and `import`, between real servers."""

import csv
import io
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result
from support import await_true
from support.models import tiny_model, write_models
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread

from statecast.client import Client
from statecast.model import save_model
from statecast.service.access import api_keys
from statecast.service.cli.main import main
from statecast.service.settings import Settings

STATECAST = str(Path(sys.executable).with_name("statecast"))


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATECAST_API_KEY", "STATECAST_CA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def elsewhere(any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerThread]:
    """Another server, without any of the first one's sessions."""
    server = ServerThread(Settings(redis_url=any_redis.url, models=models_folder, namespace="moved"))
    yield server
    server.stop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pumps.sessions"


def run(
    command: str, server: ServerThread | ServerProcess, *arguments: str | Path, stdin: bytes | None = None
) -> Result:
    words = ["sessions", command, "--target", server.target, *map(str, arguments)]
    return CliRunner().invoke(main, words, input=stdin)


def as_json(command: str, server: ServerThread | ServerProcess, *arguments: str | Path) -> Any:
    done = run(command, server, *arguments, "--output", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(done: Result, status: int = 1) -> str:
    """Return the last line of an error."""
    assert done.exit_code == status, done.output
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    return last.removeprefix("Error: ")


def observe(server: ServerThread | ServerProcess, session_id: str, *values: float) -> None:
    with Client(server.target) as client:
        client.session(session_id, model="tiny").observe(list(values))


def listed(server: ServerThread | ServerProcess, prefix: str) -> dict[str, int]:
    with Client(server.target) as client:
        return {info.session_id: info.version.step for info in client.sessions(prefix)}


def test_sessions_move_by_a_file(server: ServerThread, elsewhere: ServerThread, session_id: str, file: Path) -> None:
    for number in range(1, 4):
        observe(server, f"{session_id}-{number}", *range(number))
    told = as_json("export", server, file, "--prefix", session_id)
    assert (told["file"], told["sessions"], told["tenant"], told["prefix"]) == (str(file), 3, "default", session_id)
    assert list(told["models"]) == ["tiny 1"]
    assert told["bytes"] == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == [file.name]
    done = run("import", elsewhere, file)
    assert (done.exit_code, done.stdout) == (0, "imported 3 sessions: 3 created, 0 replaced, 0 unchanged\n"), (
        done.output
    )
    assert listed(elsewhere, session_id) == {f"{session_id}-{number}": number for number in range(1, 4)}
    assert run("import", elsewhere, file).stdout == "imported 3 sessions: 0 created, 0 replaced, 3 unchanged\n"


def test_a_session_that_exists_is_refused_and_the_others_come(
    server: ServerThread, elsewhere: ServerThread, session_id: str, file: Path
) -> None:
    for name in "abc":
        observe(server, f"{session_id}-{name}", 1.0)
    run("export", server, file, "--prefix", session_id)
    observe(elsewhere, f"{session_id}-b", 5.0, 6.0)
    done = run("import", elsewhere, file)
    assert refused(done) == "1 of 3 sessions were not imported"
    assert f"session '{session_id}-b' exists already, at step 2, tag " in done.stderr
    assert "; add --replace to replace it" in done.stderr
    found = {
        each["session_id"][-1]: each for each in json.loads(run("import", elsewhere, file, "--output", "json").stdout)
    }
    assert [found[name]["outcome"] for name in "abc"] == ["unchanged", "refused", "unchanged"]
    rows = list(csv.DictReader(io.StringIO(run("import", elsewhere, file, "--replace", "--output", "csv").stdout)))
    assert {row["session_id"][-1]: row["outcome"] for row in rows} == {
        "a": "unchanged",
        "b": "replaced",
        "c": "unchanged",
    }
    assert listed(elsewhere, session_id) == {f"{session_id}-{name}": 1 for name in "abc"}


def test_some_of_a_file_can_be_imported(
    server: ServerThread, elsewhere: ServerThread, session_id: str, file: Path
) -> None:
    for name in ("pump-1", "pump-2", "fan-1"):
        observe(server, f"{session_id}-{name}", 1.0)
    run("export", server, file, "--prefix", session_id)
    assert run("import", elsewhere, file, "--prefix", f"{session_id}-pump").exit_code == 0
    assert set(listed(elsewhere, session_id)) == {f"{session_id}-pump-1", f"{session_id}-pump-2"}
    nothing = refused(run("import", elsewhere, file, "--prefix", "none"))
    assert nothing == f"{file} holds no session whose id begins with 'none'"


def test_a_link_stays_one_and_a_device_is_written_to(server: ServerThread, session_id: str, file: Path) -> None:
    observe(server, session_id, 1.0)
    link = file.with_name("newest")
    link.symlink_to(file)
    run("export", server, link, "--prefix", session_id)
    assert (link.is_symlink(), file.is_file()) == (True, True)
    os.mkfifo(pipe := file.with_name("pipe"))
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    assert run("export", server, pipe, "--prefix", session_id).exit_code == 0
    assert len(reader.communicate(timeout=20)[0]) == file.stat().st_size
    assert pipe.is_fifo()


def test_neither_command_needs_torch(
    elsewhere: ServerThread, server: ServerThread, session_id: str, file: Path
) -> None:
    observe(server, session_id, 1.0)
    for command, target in (("export", server.target), ("import", elsewhere.target)):
        code = f"""
import sys
for name in ("torch", "redis", "pandas", "matplotlib", "prometheus_client", "psutil", "cryptography"):
    sys.modules[name] = None
sys.argv = ["statecast", "sessions", {command!r}, {str(file)!r}, "--prefix", {session_id!r}, "--target", {target!r}]
from statecast.service.__main__ import main
main()
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_export_of_nothing_leaves_an_earlier_file(server: ServerThread, file: Path) -> None:
    file.write_bytes(b"yesterday's")
    done = run("export", server, file, "--prefix", "no such")
    assert refused(done) == "no session's id begins with 'no such'; nothing was exported"
    assert file.read_bytes() == b"yesterday's"
    assert os.listdir(file.parent) == [file.name]


def damages(data: bytes) -> dict[str, tuple[bytes, str]]:
    """Return damaged files, and what the error must say."""
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    return {
        "empty": (b"", "no file of exported sessions"),
        "of another kind": (b"PK\3\4" + bytes(100), "no file of exported sessions"),
        "text": (b"STATECAST is a service", "no file of exported sessions"),
        "of a newer format": (
            data.replace(b"SESSIONS 1\n", b"SESSIONS 2\n", 1),
            "a newer format than this version reads",
        ),
        "cut in the first line": (data[:10], "cut off after 10 bytes"),
        "cut by a byte": (data[:-1], f"cut off after {len(data) - 1:,} bytes: its end is missing"),
        "cut between blocks": (data[: data.rindex(b'{"sessions"') - 9], "cut off after"),
        "with a flipped bit": (bytes(flipped), "damaged at byte"),
        "with an end": (data + b"x", "something follows the end"),
        "with a session twice": (doubled(data), "the end does not fit what is before it"),
    }


def doubled(data: bytes) -> bytes:
    """Repeat a session's whole block."""
    at = data.index(b"{") + data[data.index(b"{") :].index(b"}") + 1
    length = 9 + int.from_bytes(data[at + 1 : at + 5], "little")
    return data[: at + length] + data[at:]


DAMAGES = tuple(damages(b'STATECAST SESSIONS 1\n{"a": 1}S\0\0\0\0\0\0\0\0{"sessions"'))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_before_anything_is_imported(
    server: ServerThread, elsewhere: ServerThread, session_id: str, file: Path, damage: str
) -> None:
    for number in range(20):
        observe(server, f"{session_id}-{number}", 1.0)
    run("export", server, file, "--prefix", session_id)
    data, expected = damages(file.read_bytes())[damage]
    file.write_bytes(data)
    message = refused(run("import", elsewhere, file))
    assert message.startswith(f"{file}: ")
    assert expected in message
    assert expected in refused(run("import", elsewhere, "-", stdin=data))
    assert not listed(elsewhere, session_id)


def test_no_flipped_bit_passes(server: ServerThread, elsewhere: ServerThread, session_id: str, file: Path) -> None:
    observe(server, session_id, 1.0)
    run("export", server, file, "--prefix", session_id)
    data, chance = file.read_bytes(), random.Random(0)
    for at in sorted(chance.sample(range(8 * len(data)), 150)):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        file.write_bytes(flipped)
        assert refused(run("import", elsewhere, file)).startswith(f"{file}: ")
    assert not listed(elsewhere, session_id)


def test_a_file_travels_through_a_pipe(server: ServerThread, elsewhere: ServerThread, session_id: str) -> None:
    observe(server, session_id, 1.0, 2.0)
    into = subprocess.run(
        [STATECAST, "sessions", "export", "-", "--prefix", session_id, "--target", server.target],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert into.stderr == b"exported 1 session\n"
    command = [STATECAST, "sessions", "import", "-", "--target", elsewhere.target]
    out = subprocess.run(command, input=into.stdout, capture_output=True, timeout=60, check=True)
    assert out.stdout == b"imported 1 session: 1 created, 0 replaced, 0 unchanged\n"
    assert listed(elsewhere, session_id) == {session_id: 2}
    assert "--output json: the file itself goes to" in refused(run("export", server, "-", "--output", "json"), 2)


@pytest.mark.parametrize(
    ("has_other", "expected"),
    [(False, "(1 sessions): the server does not have it"), (True, "the server's has digest ")],
)
def test_other_models_are_refused_before_anything_is_imported(
    server: ServerThread,
    any_redis: RedisProcess,
    session_id: str,
    file: Path,
    tmp_path: Path,
    has_other: bool,
    expected: str,
) -> None:
    observe(server, session_id, 1.0)
    run("export", server, file, "--prefix", session_id)
    models = write_models(tmp_path / "models")
    shutil.rmtree(models / "tiny")
    if has_other:
        save_model(tiny_model("tiny", seed=1), models / "tiny" / "1")
    other = Settings(redis_url=any_redis.url, models=models, namespace="other")
    place = ServerThread(other)
    message = refused(run("import", place, file))
    assert message.startswith("the sessions run on other models; nothing was imported. ")
    assert expected in message
    assert not listed(place, session_id)
    place.stop()


def test_what_cannot_be_read_or_written_is_named(server: ServerThread, tmp_path: Path, session_id: str) -> None:
    observe(server, session_id, 1.0)
    nowhere = tmp_path / "none" / "file"
    assert refused(run("export", server, nowhere)) == f"{nowhere}: cannot be written: No such file or directory"
    assert refused(run("import", server, nowhere)) == f"{nowhere}: cannot be read: No such file or directory"
    closed = CliRunner().invoke(main, ["sessions", "export", str(tmp_path / "a"), "--target", "localhost:1"])
    assert refused(closed) == "localhost:1: no server listens there; start one, or name another with --target"
    assert not list(tmp_path.iterdir())


def test_a_server_killed_in_the_middle_can_be_given_the_file_again(
    own_redis: RedisProcess, models_folder: Path, file: Path
) -> None:
    options = ("--redis-url", own_redis.url, "--models", str(models_folder), "--transport", "grpc")
    server = ServerProcess(*options)
    names = [f"pump {number}" for number in range(2000)]
    with Client(server.target) as client:
        client.observe_many([(client.session(name, model="tiny"), 1.0) for name in names])
    assert as_json("export", server, file)["sessions"] == len(names)
    own_redis.client.flushall()
    command = [STATECAST, "sessions", "import", str(file), "--target", server.target, "--timeout-seconds", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    await_true(lambda: own_redis.client.dbsize() > 100)
    server.kill()
    _, told = process.communicate(timeout=60)
    done = own_redis.client.dbsize()
    assert process.returncode == 1
    assert 100 < done < len(names)
    assert re.search(
        r"; \d+ of 2000 sessions are imported, or some more; import the file again to go on$", told.strip()
    )
    again = ServerProcess(*options)
    result = run("import", again, file)
    expected = f"imported 2,000 sessions: {len(names) - done:,} created, 0 replaced, {done:,} unchanged\n"
    assert result.stdout == expected
    assert listed(again, "") == dict.fromkeys(names, 1)
    again.stop()


def test_commands_outlast_a_restart_of_the_server(own_redis: RedisProcess, models_folder: Path, file: Path) -> None:
    options = (
        "--redis-url",
        own_redis.url,
        "--models",
        str(models_folder),
        "--transport",
        "grpc",
        "--drain-seconds",
        "0",
    )
    server = ServerProcess(*options)
    port = server.port
    names = [f"pump {number}" for number in range(6000)]
    with Client(server.target) as client:
        client.observe_many([(client.session(name, model="tiny"), 1.0) for name in names])

    def has_begun(command: str) -> bool:
        if command == "import":
            return own_redis.client.dbsize() > 100
        return any(each.stat().st_size > 100_000 for each in file.parent.glob(".*"))

    def outlast(server: ServerProcess, command: str, *others: str) -> tuple[ServerProcess, str]:
        words = [STATECAST, "sessions", command, str(file), "--target", f"127.0.0.1:{port}", *others]
        words += ["--timeout-seconds", "30", "--output", "json"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        await_true(lambda: has_begun(command))
        assert server.stop() == 0
        server = ServerProcess(*options, port=port)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return server, out

    server, out = outlast(server, "export")
    assert json.loads(out)["sessions"] == len(names)
    own_redis.client.flushall()
    server, out = outlast(server, "import")
    assert {each["session_id"] for each in json.loads(out)} == set(names)
    assert listed(server, "") == dict.fromkeys(names, 1)
    server.stop()


def test_ctrl_c_says_how_far_it_came(own_redis: RedisProcess, models_folder: Path, file: Path) -> None:
    server = ServerThread(Settings(redis_url=own_redis.url, models=models_folder, redis_timeout_seconds=60))
    observe(server, "a", 1.0)
    run("export", server, file)
    words = [STATECAST, "sessions", "import", str(file), "--target", server.target, "--timeout-seconds", "60"]
    own_redis.pause()

    def has_begun() -> bool:
        with urlopen(server.metrics_url) as response:
            return bool(re.search(rb'grpc_server_started_total{[^}]*"ImportSessions"[^}]*} 1.0', response.read()))

    try:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        await_true(has_begun)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    finally:
        own_redis.resume()
    server.stop()
    assert process.returncode == 1
    assert told == "Error: interrupted: 0 of 1 sessions are imported, or some more; import the file again to go on\n"


def test_a_bar_shows_on_a_terminal_only(server: ServerThread, session_id: str, file: Path) -> None:
    observe(server, session_id, 1.0)
    master, slave = os.openpty()
    words = [STATECAST, "sessions", "export", str(file), "--prefix", session_id, "--target", server.target]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=slave)
    out, _ = process.communicate(timeout=60)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "exporting" in shown
    assert "1/1" in shown
    assert out.startswith(b"file ")
    assert run("export", server, file, "--prefix", session_id).stderr == ""


def test_errors_of_credentials_name_the_next_step(
    any_redis: RedisProcess, models_folder: Path, tmp_path: Path, file: Path, session_id: str
) -> None:
    path = tmp_path / "keys.json"
    admin, writer = (api_keys.create(path, "acme", role)[1] for role in ("admin", "write"))
    server = ServerThread(Settings(redis_url=any_redis.url, models=models_folder, namespace=session_id, api_keys=path))
    with Client(server.target, api_key=writer) as client:
        client.session("pump", model="tiny").observe(1.0)
    assert refused(run("export", server, file)).endswith("give it with --api-key or the variable STATECAST_API_KEY")
    assert "this credential's role is write, which may not export sessions; ask for one whose role is admin" in refused(
        run("export", server, file, "--api-key", writer)
    )
    assert as_json("export", server, file, "--api-key", admin)["tenant"] == "acme"
    assert "may not import sessions" in refused(run("import", server, file, "--api-key", writer))
    assert run("import", server, file, "--api-key", admin).exit_code == 0
    server.stop()


def test_a_damaged_session_is_left_out_and_named(
    server: ServerThread, any_redis: RedisProcess, session_id: str, file: Path
) -> None:
    observe(server, f"{session_id}-a", 1.0)
    any_redis.client.set(f"shared:default:{session_id}-b", b"damaged")
    done = run("export", server, file, "--prefix", session_id)
    assert refused(done) == "1 session could not be exported; the file holds all others"
    assert f"the record of session '{session_id}-b' is damaged" in done.stderr
    any_redis.client.delete(f"shared:default:{session_id}-b")
    assert "1 unchanged" in run("import", server, file).stdout
