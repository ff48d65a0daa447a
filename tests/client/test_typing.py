"""The documented calls pass the type checkers that people use, and mistakes do not."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Faults = set[tuple[str, int]]
HERE = Path(__file__).parent / "typing"
ROOT = Path(__file__).parents[2]
MISTAKES = {
    number
    for number, line in enumerate((HERE / "mistakes.py").read_text().splitlines(), 1)
    if line.endswith("# mistake")
}


def mypy(*files: Path) -> Faults:
    """The files and lines that mypy finds fault with."""
    command = [sys.executable, "-m", "mypy", "--strict", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return {(name, int(line)) for name, line in re.findall(r"(\w+\.py):(\d+): error", done.stdout)}


def pyright(*files: Path) -> Faults:
    """The files and lines that pyright finds fault with."""
    command = [sys.executable, "-m", "basedpyright", "--level", "error", "--outputjson", *map(str, files)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    errors = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    return {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in errors}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_what_is_documented_passes_and_what_is_wrong_does_not(checker: Callable[..., Faults]) -> None:
    found = checker(HERE / "documented_calls.py", HERE / "mistakes.py")
    assert found == {("mistakes.py", line) for line in MISTAKES}
