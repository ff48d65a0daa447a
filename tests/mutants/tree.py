"""Copies of the working tree, and patches that add a bug."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = ("proto", "model", "service", "client", "tests")
MODULES = ("statecast.v1", "statecast.model", "statecast.service", "statecast.client", "support")


def patches() -> list[Path]:
    """Return the patches of all mutants, in order."""
    return sorted(HERE.glob("*.patch"))


def sentence(patch: Path) -> str:
    """Return the description of the bug."""
    return patch.read_text().partition("\n")[0].removeprefix("# ")


def touched(patch: Path) -> list[str]:
    """Return the files that the patch changes, relative to the root."""
    return [line.removeprefix("+++ b/") for line in patch.read_text().splitlines() if line.startswith("+++ b/")]


def apply(patch: Path, folder: Path, *, check_only: bool = False) -> str:
    """Apply the patch to the tree in `folder`; return git's error message, empty on success."""
    options = ["--check"] if check_only else []
    # Inside another repository, git would resolve the paths there.
    variables = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}
    command = ["git", "apply", *options, str(patch)]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True).stderr


def copy_sources(folder: Path) -> None:
    """Copy the tracked and untracked files that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # a removed file is listed until the removal is committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run_python(folder: Path, arguments: Sequence[str], timeout_seconds: float) -> "subprocess.CompletedProcess[str]":
    """Run this Python with the sources in `folder` ahead of the installed ones."""
    path = os.pathsep.join(str(folder / source) for source in SOURCES)
    variables = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )


def require_own_sources(folder: Path) -> None:
    """Check that imports in `folder` come from there.

    Raises:
        RuntimeError: If an import comes from elsewhere.
    """
    code = f"from importlib.util import find_spec\nfor name in {MODULES}: print(find_spec(name).origin)"
    found = run_python(folder, ["-c", code], timeout_seconds=60)
    origins = found.stdout.split("\n")[: len(MODULES)]
    elsewhere = [origin for origin in origins if not Path(origin).is_relative_to(folder)]
    if found.returncode or elsewhere:
        raise RuntimeError(f"not what is in {folder}: {', '.join(elsewhere)} {found.stderr}")
