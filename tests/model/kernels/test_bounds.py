"""No kernel reads or writes beyond its arrays, where another session's memory lies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_indices_are_within_bounds() -> None:
    checked = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "KERNEL_EXAMPLES": str(EXAMPLES)}
    tests = Path(__file__).with_name("test_forecaster.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", str(tests), "-k", "same_in_torch"]
    done = subprocess.run(command, env=checked, cwd=tests.parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 passed" in done.stdout
