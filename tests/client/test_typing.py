"""The documented calls pass the type checkers that people use, and mistakes do not."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "typing"
ROOT = Path(__file__).parents[2]
MISTAKES = {
    number
    for number, line in enumerate((HERE / "mistakes.py").read_text().splitlines(), 1)
    if line.endswith("# mistake")
}


def mypy(file: str) -> set[int]:
    """The lines that mypy finds fault with."""
    command = [sys.executable, "-m", "mypy", "--strict", str(HERE / file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return {int(line) for line in re.findall(rf"{file}:(\d+): error", done.stdout)}


def pyright(file: str) -> set[int]:
    """The lines that pyright finds fault with."""
    command = [sys.executable, "-m", "basedpyright", "--level", "error", "--outputjson", str(HERE / file)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_what_is_documented_passes_and_what_is_wrong_does_not(checker: Callable[[str], set[int]]) -> None:
    assert checker("documented_calls.py") == set()
    assert checker("mistakes.py") == MISTAKES
