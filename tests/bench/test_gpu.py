"""The benchmark of devices, on the one that every machine has."""

from bench import gpu
from click.testing import CliRunner


def test_it_prints_its_tables() -> None:
    sizes = ["--hidden", "16", "--batch", "4", "--batch", "9", "--steps", "64", "--repeats", "1"]
    result = CliRunner().invoke(gpu.main, ["--device", "cpu", *sizes, "--megabytes", "1", "--size", "64"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split("|")[1:3] for line in lines if line.startswith("| 16 ")][:2] == [
        [" 16 ", " 4 "],
        [" 16 ", " 9 "],
    ]
    error = float(lines[-1].rpartition(":")[2])
    assert 0 < error < 1e-5
