"""Copies of the working tree, and the patches that put a bug into one."""

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
    """Every mutant, in order."""
    return sorted(HERE.glob("*.patch"))


def sentence(patch: Path) -> str:
    """What the bug is."""
    return patch.read_text().partition("\n")[0].removeprefix("# ")


def touched(patch: Path) -> list[str]:
    """The files that the patch changes, relative to the root."""
    return [line.removeprefix("+++ b/") for line in patch.read_text().splitlines() if line.startswith("+++ b/")]


def apply(patch: Path, folder: Path, *, check_only: bool = False) -> str:
    """Apply the patch to the tree in `folder`; why that cannot be, empty if it can."""
    options = ["--check"] if check_only else []
    # Inside another repository, git would take the paths for paths from there.
    variables = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}
    command = ["git", "apply", *options, str(patch)]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True).stderr


def copy_sources(folder: Path) -> None:
    """Copy what git knows or would take of the working tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # one that was removed is listed until that is committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run_python(folder: Path, arguments: Sequence[str], timeout_seconds: float) -> "subprocess.CompletedProcess[str]":
    """Run this Python on the sources in `folder`, which come before those that are installed."""
    path = os.pathsep.join(str(folder / source) for source in SOURCES)
    variables = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )


def require_own_sources(folder: Path) -> None:
    """Make sure that what is imported in `folder` is what lies there.

    Raises:
        RuntimeError: if anything comes from elsewhere.
    """
    code = f"from importlib.util import find_spec\nfor name in {MODULES}: print(find_spec(name).origin)"
    found = run_python(folder, ["-c", code], timeout_seconds=60)
    origins = found.stdout.split("\n")[: len(MODULES)]
    elsewhere = [origin for origin in origins if not Path(origin).is_relative_to(folder)]
    if found.returncode or elsewhere:
        raise RuntimeError(f"not what is in {folder}: {', '.join(elsewhere)} {found.stderr}")
