"""The client's CPU time is measured for each way to use it."""

import re

from bench.client import LOADS, main
from click.testing import CliRunner


def test_each_way_has_its_row() -> None:
    ran = CliRunner().invoke(main, ["--rounds", "1"])
    assert ran.exit_code == 0, ran.output
    rows = re.findall(r"^\| (.+) \| ([\d.]+) \|$", ran.output, re.MULTILINE)
    assert [name for name, _ in rows] == list(LOADS)
    assert all(1 < float(microseconds) < 1e5 for _, microseconds in rows)
