"""A TOML file gives a command's options, unless the command line or the environment does."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from statecast.service.cli.config_file import config_option


@click.command(context_settings={"auto_envvar_prefix": "PROGRAM"})
@config_option(what="settings")
@click.option("--port", type=int, default=1)
@click.option("--share", type=float, default=0.5)
@click.option("--quick", is_flag=True)
@click.option("--column", multiple=True, default=("y",))
def program(**options: object) -> None:
    """Print the options."""
    click.echo(options)


def run(file: Path, text: str, *arguments: str, **environment: str) -> str:
    file.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(program, ["--config", str(file), *arguments], env=environment)
    return " ".join(done.output.split())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "program.toml"


def test_the_file_replaces_the_defaults(file: Path) -> None:
    said = run(file, 'port = 7\nshare = 1\nquick = true\ncolumn = ["a", "b"]\n')
    assert said == "{'port': 7, 'share': 1.0, 'quick': True, 'column': ('a', 'b')}"
    assert run(file, "\ufeffport = 7\n").startswith("{'port': 7, 'share': 0.5")  # as some editors write it


def test_environment_and_command_line_come_first(file: Path) -> None:
    assert "'port': 8," in run(file, "port = 7", PROGRAM_PORT="8")
    assert "'port': 9," in run(file, "port = 7", "--port", "9", PROGRAM_PORT="8")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 7", "unknown settings: prot; --help lists all, write _ for -"),
        ('port = "7"', "port is '7'; expected a whole number"),
        ("port = true", "port is True; expected a whole number"),
        ('share = "x"', "share is 'x'; expected a number"),
        ("quick = 1", "quick is 1; expected true or false"),
        ('column = "a"', "column is 'a'; expected a list"),
        ('column = ["a", 1]', "column is ['a', 1]; expected a list, each text"),
        ("port = ", "cannot be read"),
        ("[server]\nport = 7", "unknown settings: server"),
    ],
)
def test_what_is_wrong_is_named(file: Path, text: str, says: str) -> None:
    assert says in run(file, text).replace("│ ", "").replace(" │", "")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(program, ["--config", str(tmp_path / "none.toml")])
    assert done.exit_code == 2
    assert "none.toml cannot be read" in " ".join(done.output.split())
