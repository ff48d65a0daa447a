"""Run the examples in docs/training.md, and check its lists against the code."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from support.panels import panel_of

from statecast.model.training.defaults import Wishes, configure
from statecast.service.cli.main import main

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
# Rows of a series that contains each season three times.
ROWS = {"min": 40_000, "30min": 53_000, "h": 27_000, "D": 1200, "B": 900, "W": 600, "MS": 300, "QS": 100}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without the header."""
    below = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def sales() -> pd.DataFrame:
    """Return the data of the page's file: expensive days sell less, weekends more."""
    rng = np.random.default_rng(0)
    hours = np.arange(24 * 7 * 8)
    parts = []
    for shop, region in (("a", "north"), ("b", "north"), ("c", "south"), ("d", "south")):
        price = 10 + rng.choice([0, -2], size=len(hours) // 24, p=[0.8, 0.2]).repeat(24)
        day = (2 + np.sin(2 * np.pi * hours / 24)) * np.where(hours // 24 % 7 < 5, 1.0, 1.6)
        y = rng.uniform(1, 4) * (12 - price) * day * rng.lognormal(0, 0.1, len(hours))
        times = pd.date_range("2024-01-01", periods=len(hours), freq="h")
        columns = {"unique_id": shop, "ds": times, "y": y.round(2), "price": price, "region": region}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts)


def shape(line: str) -> str:
    """Return a line with all digits set to 0, because they differ slightly between machines."""
    return re.sub(r"\d", "0", line).rstrip()


@pytest.mark.slow
def test_the_commands_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sales().to_csv("sales.csv", index=False)
    assert Path("sales.csv").read_text().startswith(blocks("csv")[0])
    consoles = blocks("console")
    assert len(consoles) == 4
    for console in consoles:
        command, *shown = console.splitlines()
        words = shlex.split(command.removeprefix("$ statecast "))
        done = CliRunner().invoke(main, [*words, "--threads", "1"])
        assert done.exit_code == 0, done.output
        printed = {shape(line) for line in re.split(r"[\r\n]", done.output)}
        for line in shown:
            assert line == "..." or shape(line) in printed, line
    report = json.loads(Path("report/report.json").read_text())
    keys = {*report, *report["forecasters"][0], *report["forecasters"][0]["coverage"][0]} - {"name", "windows"}
    told = PAGE.split("`report.json` holds")[1]
    assert {key for key in keys if f"`{key}`" not in told} <= {"format", "stated"}


@pytest.mark.parametrize(
    ("heading", "command", "left_out"),
    [
        ("Options of `statecast train`", "train", set()),
        ("Evaluate", "evaluate", {"--horizon"}),
        ("Forecast a file", "forecast", {"--horizon"}),
    ],
)
def test_every_option_stands_in_the_table(heading: str, command: str, left_out: set[str]) -> None:
    rows: dict[str, Any] = {row[0].split("`")[1]: row for row in table(heading)}
    described = [each for each in main.commands[command].params if isinstance(each, click.Option)]
    told_before = {each.opts[0] for each in main.commands["train"].params} - left_out if command != "train" else set()
    assert set(rows) == {each.opts[0] for each in described} - told_before
    for option in described:
        if option.opts[0] in rows:
            assert rows[option.opts[0]][2] == option.help
            shown = rows[option.opts[0]][1]
            assert not shown or option.is_flag or shown.strip("`") in str(option.default)


def test_the_file_of_options_can_be_read(tmp_path: Path) -> None:
    keys = tomllib.loads(blocks("toml")[0])
    options = {each.name for each in main.commands["train"].params}
    assert set(keys) <= options


def test_the_defaults_are_as_told() -> None:
    rows = table("Defaults by frequency")
    assert {row[0].strip("`") for row in rows} == set(ROWS)
    for alias, lags, horizon, calendar in rows:
        frequency = alias.strip("`")
        config = configure(panel_of(np.arange(ROWS[frequency]), frequency=frequency), "m", "1", Wishes())
        assert ", ".join(map(str, config.lags)) == lags
        assert str(config.horizon) == horizon
        # A year of minutes would take too long here.
        assert ", ".join(config.calendar) == (calendar.removesuffix(", year") if frequency == "min" else calendar)
