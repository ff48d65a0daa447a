"""The output that docs/commands.md shows is what the commands print."""

import re
import shlex
import threading
from pathlib import Path

from click.testing import CliRunner
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client
from statecast.service.cli.main import main

PAGE = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
SHOWN: dict[str, str] = dict(re.findall(r"^```console\n\$ statecast (.*)\n((?:.*\n)*?)```", PAGE, re.MULTILINE))


def run(command: str, *further: str) -> str:
    """Run a command of the page with further arguments; return its output, without spaces at the end of lines."""
    words = [word for word in shlex.split(command) if not word.startswith("redis://")]
    return re.sub(" +$", "", CliRunner().invoke(main, [*words, *further]).output, flags=re.MULTILINE)


def test_the_list_of_sessions(server: ServerThread, session_id: str) -> None:
    command = next(command for command in SHOWN if command.startswith("sessions list"))
    prefix = f"{session_id[:4]}-"  # as long as that of the page
    with Client(server.target) as client:
        for number in (17, 18, 19):
            client.session(f"{prefix}{number}").observe([20.1, 20.4, 20.3])
    printed = run(command.replace("pump-", prefix), "--target", server.target).replace(prefix, "pump-")
    assert sorted(printed.splitlines()) == sorted(SHOWN[command].splitlines())


def test_the_check_of_a_redis(own_redis: RedisProcess) -> None:
    own_redis.client.config_set("appendonly", "no")
    command = next(command for command in SHOWN if command.startswith("redis check"))
    printed = run(command, own_redis.url).replace(own_redis.url, "redis://localhost:6379")
    assert without_numbers(printed) == without_numbers(SHOWN[command])


def test_the_reading_of_a_server(server: ServerThread) -> None:
    command = next(command for command in SHOWN if command.startswith("top"))
    is_over = threading.Event()

    def call() -> None:
        with Client(server.target) as client:
            session = client.session("a reading", model="tiny")
            while not is_over.is_set():
                session.step(1.0, 2)

    thread = threading.Thread(target=call)
    thread.start()
    printed = run(command, "--metrics-url", server.metrics_url, "--interval", "0.5")
    is_over.set()
    thread.join()
    names = [line.split()[0] for line in SHOWN[command].splitlines() if line]
    ours = [line.split()[0] for line in printed.splitlines() if line]
    only_there = {"get", "NOT_FOUND", "envoy"}  # of other requests, and another transport
    assert ours[2:] == [name for name in names[2:] if name not in only_there]


def without_numbers(text: str) -> str:
    return re.sub(r"\d[\d.]*", "0", text.replace("Valkey", "Redis"))
