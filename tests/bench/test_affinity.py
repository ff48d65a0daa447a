"""Hopping sessions are read from Redis, and staying ones are not."""

import re

from bench.affinity import LOADS, main
from click.testing import CliRunner


def test_each_load_is_measured_both_ways() -> None:
    ran = CliRunner().invoke(main, ["--replicas", "2", "--rounds", "2"])
    assert ran.exit_code == 0, ran.output
    rows = re.findall(r"^\| (.+) \| (hop|stay) \| .* \| ([\d,]+) \| [\d,]+ \|$", ran.output, re.MULTILINE)
    assert [(name, way) for name, way, _ in rows] == [(name, way) for name in LOADS for way in ("hop", "stay")]
    read = {(name, way): int(count.replace(",", "")) for name, way, count in rows}
    assert all(read[name, "hop"] > 10 * read[name, "stay"] for name in LOADS)
