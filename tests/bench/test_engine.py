"""Each stage of the engine is measured."""

import re

import pytest
from bench.engine import STAGES, main
from click.testing import CliRunner


@pytest.mark.parametrize("options", [(), ("--usual",)])
def test_each_stage_has_its_row(options: tuple[str, ...]) -> None:
    ran = CliRunner().invoke(main, ["--rounds", "2", "--sessions", "8", *options])
    assert ran.exit_code == 0, ran.output
    rows = dict(re.findall(r"^\| (.+) \| ([\d.]+) \|$", ran.output, re.MULTILINE))
    assert list(rows) == [*STAGES, "total"]
    assert 1 < float(rows["total"]) < 1e5
