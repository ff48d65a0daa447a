"""Programs of other languages, which may be missing on a machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def needs(*things: str | Path) -> pytest.MarkDecorator:
    """Skip a test where a program, file or folder is missing."""
    missing = [
        str(thing) for thing in things if not (thing.exists() if isinstance(thing, Path) else shutil.which(thing))
    ]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def run(*command: str | Path, folder: Path, **environment: str) -> None:
    """Run a command that must succeed without warnings."""
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
