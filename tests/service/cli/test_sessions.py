"""`statecast sessions`, on a real server."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.certificates import Authority
from support.programs import needs
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client
from statecast.service.access import api_keys
from statecast.service.cli.main import main
from statecast.service.settings import Settings

STATECAST = str(Path(sys.executable).with_name("statecast"))
FIELDS = [
    "session_id", "model", "model_version", "version", "time_to_live", "last_time", "categories", "time_zone",
    "max_ahead",
    "frequency", "alias",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATECAST_API_KEY", "STATECAST_CA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def prefix(server: ServerThread) -> str:
    """Open three sessions that take a step and one with a frequency, and return how their ids begin."""
    start = uuid.uuid4().hex[:8]
    with Client(server.target) as client:
        for number in range(3):
            client.session(f"{start}-{number}", model="tiny", time_to_live=3600).observe([1.0, 2.0])
        hourly = client.session(f"{start}-hourly", model="hourly", max_ahead=0)
        hourly.observe([1.0, 2.0], start_time=datetime(2024, 3, 30, 22, tzinfo=UTC))
    return start


def sessions(server: ServerThread, *arguments: str, stdin: str | None = None) -> Result:
    name, *others = arguments
    return CliRunner().invoke(main, ["sessions", name, "--target", server.target, *others], input=stdin)


def as_json(server: ServerThread, *arguments: str) -> Any:
    done = sessions(server, *arguments, "--output", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(done: Result, status: int = 1) -> str:
    """Return the one line of an error."""
    assert done.exit_code == status
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("Error: ")
    assert status == 2 or len(lines) == 1, done.stderr
    return lines[-1].removeprefix("Error: ")


def test_sessions_are_listed_in_each_format(server: ServerThread, prefix: str) -> None:
    found = {each["session_id"]: each for each in as_json(server, "list", "--prefix", prefix)}
    assert sorted(found) == [f"{prefix}-0", f"{prefix}-1", f"{prefix}-2", f"{prefix}-hourly"]
    one, hourly = found[f"{prefix}-0"], found[f"{prefix}-hourly"]
    assert list(one) == FIELDS
    assert one["version"]["step"] == 2
    assert len(one["version"]["tag"]) == 16
    assert (one["model"], one["time_to_live"], one["last_time"], one["max_ahead"]) == ("tiny", 3600, None, None)
    assert (hourly["last_time"], hourly["max_ahead"]) == ("2024-03-30T23:00:00Z", 0)
    rows = list(csv.DictReader(io.StringIO(sessions(server, "list", "--prefix", prefix, "--output", "csv").stdout)))
    assert {row["session_id"]: row["version.step"] for row in rows} == dict.fromkeys(found, "2")
    lines = sessions(server, "list", "--prefix", prefix).stdout.splitlines()
    assert lines[0].split() == ["SESSION", "MODEL", "VERSION", "STEP", "TAG", "LAST", "TIME", "TTL", "CATEGORIES"]
    assert {line.split()[0] for line in lines[1:]} == set(found)


def test_a_limit_ends_the_list(server: ServerThread, prefix: str) -> None:
    assert len(as_json(server, "list", "--prefix", prefix, "--limit", "2")) == 2
    assert refused(sessions(server, "list", "--limit", "0"), 2).startswith("Invalid value for '--limit'")


def test_a_prefix_that_matches_nothing_is_no_error(server: ServerThread) -> None:
    done = sessions(server, "list", "--prefix", "no such\n")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "no session's id begins with 'no such\\n'\n"
    assert as_json(server, "list", "--prefix", "no such") == []


def test_a_record_that_cannot_be_read_has_only_its_id(
    server: ServerThread, any_redis: RedisProcess, session_id: str
) -> None:
    any_redis.client.set(f"shared:default:{session_id}", b"damaged")
    (found,) = as_json(server, "list", "--prefix", session_id)
    assert found["session_id"] == session_id
    assert found["model"] is None
    assert found["version"] == {"step": None, "tag": None}
    assert sessions(server, "close", session_id).stdout == f"closed {session_id}\n"


def test_odd_ids_are_shown(server: ServerThread, session_id: str) -> None:
    name = f"{session_id} [red]泵 'x'"
    with Client(server.target) as client:
        client.session(name, model="tiny").observe(1.0)
    assert as_json(server, "show", name)["session_id"] == name
    done = sessions(server, "list", "--prefix", session_id)
    assert done.stdout.splitlines()[1].startswith(name)
    assert sessions(server, "close", name).stdout == f"closed {name}\n"


def test_a_session_is_shown_forked_and_closed(server: ServerThread, prefix: str) -> None:
    source, copy = f"{prefix}-0", f"{prefix}-copy"
    shown = as_json(server, "show", source)
    assert as_json(server, "fork", source, copy, "--ttl", "36h") == {
        **shown, "session_id": copy, "time_to_live": 36 * 3600,
    }  # fmt: skip
    assert refused(sessions(server, "fork", source, copy)).startswith(f"session '{copy}' exists already")
    assert "time_to_live   129600" in sessions(server, "show", copy).stdout.splitlines()
    assert sessions(server, "close", copy, source).stdout == f"closed {copy}\nclosed {source}\n"
    assert refused(sessions(server, "show", copy)).endswith("; to see those that exist: statecast sessions list")
    assert as_json(server, "list", "--prefix", copy) == []


@pytest.mark.parametrize(("span", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("30d", 2_592_000)])
def test_durations_have_units(server: ServerThread, prefix: str, span: str, seconds: float) -> None:
    assert as_json(server, "fork", f"{prefix}-0", f"{prefix}-copy", "--ttl", span)["time_to_live"] == seconds


@pytest.mark.parametrize("span", ["", "abc", "-5", "nan", "1 year", "5y"])
def test_what_is_no_duration_is_refused(server: ServerThread, span: str) -> None:
    assert "is not a duration; write 90 for seconds" in refused(sessions(server, "fork", "a", "b", "--ttl", span), 2)


def test_a_duration_that_the_server_refuses_names_the_option(server: ServerThread, prefix: str) -> None:
    assert refused(sessions(server, "fork", f"{prefix}-0", "b", "--ttl", "0.5")).startswith("--ttl: 0.5 s is outside")


def test_sessions_are_closed_by_prefix(server: ServerThread, prefix: str) -> None:
    said = refused(sessions(server, "close", "--prefix", prefix), 2)
    assert said == f"add --yes to close 4 sessions whose id begins with {prefix!r}"
    closed = as_json(server, "close", "--prefix", prefix, "--yes")
    assert sorted(each["session_id"] for each in closed)[0] == f"{prefix}-0"
    assert all(each["closed"] and each["error"] is None for each in closed)
    assert refused(sessions(server, "close", "--prefix", prefix, "--yes")).startswith("no session's id begins with")


@pytest.mark.parametrize("arguments", [(), ("a", "--prefix", "b")])
def test_either_ids_or_a_prefix_are_closed(server: ServerThread, arguments: tuple[str, ...]) -> None:
    assert refused(sessions(server, "close", *arguments), 2).startswith("name the sessions to close")


def test_an_empty_prefix_closes_nothing(server: ServerThread, prefix: str) -> None:
    assert "would close every session" in refused(sessions(server, "close", "--prefix", "", "--yes"), 2)
    assert len(as_json(server, "list", "--prefix", prefix)) == 4


def test_the_others_are_closed_if_one_does_not_exist(server: ServerThread, prefix: str) -> None:
    done = sessions(server, "close", f"{prefix}-0", f"{prefix}-none", f"{prefix}-1")
    assert done.exit_code == 1
    assert done.stdout == f"closed {prefix}-0\nclosed {prefix}-1\n"
    missing, summary = done.stderr.splitlines()
    assert missing.startswith(f"Error: there is no session '{prefix}-none'")
    assert summary == "Error: 1 of 3 sessions could not be closed"
    found = sessions(server, "close", f"{prefix}-2", f"{prefix}-2", f"{prefix}-x", "--output", "json")
    assert [each["closed"] for each in json.loads(found.stdout)] == [True, False]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("localhost", "--target: 'localhost' names no port; write 'localhost:50051'"),
        ("127.0.0.1:1", "127.0.0.1:1: no server listens there; start one, or name another with --target"),
        ("nowhere.invalid:50051", "nowhere.invalid:50051: the host cannot be found; check --target"),
    ],
)
def test_a_target_without_a_server_is_named(target: str, says: str) -> None:
    command = ["sessions", "list", "--target", target, "--timeout-seconds", "0.5"]
    assert refused(CliRunner().invoke(main, command)).startswith(says)


def test_the_metrics_port_is_no_target(server: ServerThread) -> None:
    target = server.metrics_url.removeprefix("http://").removesuffix("/metrics")
    done = CliRunner().invoke(main, ["sessions", "list", "--target", target, "--timeout-seconds", "0.5"])
    assert "it does not speak gRPC; check the port in --target" in refused(done)


def test_tls_that_the_server_does_not_speak_is_named(server: ServerThread) -> None:
    done = sessions(server, "list", "--tls", "--timeout-seconds", "0.5")
    assert "the server does not speak TLS; leave out --tls" in refused(done)


@pytest.fixture
def guarded(
    any_redis: RedisProcess, models_folder: Path, tmp_path: Path
) -> Iterator[tuple[ServerThread, Path, dict[str, str]]]:
    """Start a server with TLS that asks for API keys; with its authority's certificate, and a key of each role."""
    pair, keys = Authority(tmp_path).server(), tmp_path / "keys.json"
    made = {role: api_keys.create(keys, "acme", role)[1] for role in ("read", "write")}
    server = ServerThread(
        Settings(
            redis_url=any_redis.url,
            namespace=uuid.uuid4().hex,
            models=models_folder,
            default_model="tiny",
            tls_cert=pair.cert,
            tls_key=pair.key,
            api_keys=keys,
        )
    )
    yield server, tmp_path / "ca.pem", made
    server.stop()


def test_tls_and_credentials(guarded: tuple[ServerThread, Path, dict[str, str]]) -> None:
    server, authority, keys = guarded
    ca, reader, writer = ("--ca", str(authority)), keys["read"], keys["write"]
    with Client(server.target, ca=authority, api_key=writer, timeout_seconds=30) as client:
        client.session("pump", model="tiny").observe(1.0)
    (found,) = as_json(server, "list", *ca, "--api-key", reader)
    assert found["session_id"] == "pump"
    says = refused(sessions(server, "list", "--timeout-seconds", "0.5"))
    assert "if it speaks TLS, add --tls, or --ca with its authority" in says
    says = refused(sessions(server, "list", "--tls", "--timeout-seconds", "0.5"))
    assert "certificate is not trusted here; name its authority with --ca" in says
    says = refused(sessions(server, "list", *ca))
    assert "this server asks for a credential" in says
    assert says.endswith("give it with --api-key or the variable STATECAST_API_KEY")
    for command in (("close", "pump"), ("close", "--prefix", "pump", "--yes"), ("fork", "pump", "copy")):
        says = refused(sessions(server, *command, *ca, "--api-key", reader))
        assert "role is read" in says
        assert reader not in says
    assert sessions(server, "close", "pump", *ca, "--api-key", writer).exit_code == 0


CALLERS = ("torch", "redis", "pandas", "matplotlib", "prometheus_client", "psutil", "cryptography")
"""Packages that the extra `cli` does not bring."""


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("sessions", "list", "--target"), CALLERS),
        (("models", "list", "--target"), CALLERS),
        (("top", "--once", "--interval", "0.1", "--metrics-url"), ("torch", "redis", "pandas", "matplotlib")),
        (("redis", "check"), ("torch", "prometheus_client", "pandas", "matplotlib")),
    ],
)
def test_no_command_needs_torch(
    server: ServerThread, any_redis: RedisProcess, command: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    place = {"top": server.metrics_url, "redis": any_redis.url}.get(command[0], server.target)
    code = f"""
import sys
for name in {missing}:
    sys.modules[name] = None
sys.argv = {["statecast", *command, place]}
from statecast.service.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_reader_that_has_gone_is_no_failure_to_report(server: ServerThread, prefix: str, output: str) -> None:
    """As with `| head`, once it has seen enough."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [STATECAST, "sessions", "list", "--target", server.target, "--prefix", prefix, "--output", output]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize("command", [("list",), ("close", "a", "b")])
def test_ctrl_c_ends_a_call(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        name, *others = command
        process = subprocess.Popen(
            [STATECAST, "sessions", name, "--target", target, "--timeout-seconds", "60", *others],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        silent.settimeout(60)
        connection, _ = silent.accept()  # the call is under way
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == 1
    assert out == ""
    assert err.strip() in ("Aborted!", "Error: interrupted: 0 of 2 sessions are closed, or one more")


def test_a_server_that_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        done = CliRunner().invoke(main, ["sessions", "list", "--target", target, "--timeout-seconds", "0.5"])
    says = refused(done)
    assert says.startswith(f"{target}: no answer within 0.5 s (")
    assert says.endswith("); check --target, or raise --timeout-seconds")


@needs("bash")
def test_bash_completes_a_command() -> None:
    script = """
        eval "$(_STATECAST_COMPLETE=bash_source statecast)"
        COMP_WORDS=(statecast mo) COMP_CWORD=1
        _statecast_completion statecast
        echo "${COMPREPLY[@]}"
    """
    path = f"{Path(STATECAST).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["models"]


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o nosort"), ("zsh", "#compdef"), ("fish", "complete")])
def test_shells_complete_the_commands(shell: str, sign: str) -> None:
    def ask(**variables: str) -> str:
        environment = {**os.environ, **variables}
        return subprocess.run(
            [STATECAST], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    assert sign in ask(_STATECAST_COMPLETE=f"{shell}_source")
    completed = ask(_STATECAST_COMPLETE="bash_complete", COMP_WORDS="statecast sessions ", COMP_CWORD="2")
    assert completed.split() == [
        f"plain,{name}" for name in ("close", "export", "fork", "import", "list", "show", "upgrade")
    ]
