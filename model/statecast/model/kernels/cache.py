"""Where compiled kernels are kept: a private folder for each version of the code and each kind of processor.

Numba reads compiled code with pickle, so whoever can write to the folder can run code in the server. And numba does not
see that a function has changed which a kernel calls. So the folder must be the user's own, and its name is a digest of
everything that the code depends on.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ..errors import ModelError

CPU_VARIABLES = "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"
"""The processor to compile for, if not this machine's; see numba's documentation."""
# Beside the code and not below sys.prefix, which inside Envoy is not that of the virtual environment.
INSTALLED = Path(__file__).with_name("compiled")
LOWEST_PRIORITY = 19
_COMPLETE = "complete"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class KernelError(ModelError):
    """Kernels cannot be compiled or loaded."""


def are_possible() -> bool:
    """Return whether numba is installed."""
    return find_spec("numba") is not None


def default_base() -> Path:
    """Return the folder that holds compiled kernels unless another is chosen."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "statecast" / "kernels"


class KernelCache:
    """The folder of the kernels of this version for this processor, inside `base`.

    If `base` cannot be used, the folder is a temporary one of this process.
    """

    def __init__(self, base: Path | None = None) -> None:
        """Make the folder; base None for the default one.

        Raises:
            KernelError: The chosen base belongs to someone else, others may write to it, or it cannot be made.
        """
        _choose_processor()
        self.note = ""
        """Why the folder is a temporary one; empty if it is not."""
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        try:
            self.folder = _private(base or default_base()) / digest()
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except (OSError, RuntimeError, KernelError) as error:  # RuntimeError: there is no home
            if base is not None:
                raise KernelError(f"kernel-cache {base} cannot be used: {error}") from error
            self.note = str(error)
            self._temporary = tempfile.TemporaryDirectory(prefix="statecast-kernels-")
            self.folder = Path(self._temporary.name) / digest()
            self.folder.mkdir(mode=0o700)
        self._take_installed()

    @property
    def is_complete(self) -> bool:
        """Whether all kernels have been compiled."""
        return (self.folder / _COMPLETE).exists()

    def start_build(self, *, is_waited_for: bool = False) -> "subprocess.Popen[bytes]":
        """Start a process that compiles the kernels, and ends early if its standard input does.

        Unless somebody waits for it, it runs at the lowest priority.
        """
        niceness = 0 if is_waited_for else LOWEST_PRIORITY
        command = [sys.executable, "-P", "-m", "statecast.model.kernels.build", str(self.folder), str(niceness)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def load(self) -> None:
        """Load compiled kernels, which takes about a second."""
        load(self.folder)

    def close(self) -> None:
        """Delete the folder if it is a temporary one."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def _take_installed(self) -> None:
        """Copy kernels that came with the installation, since numba reads only from folders that it can write to."""
        installed = _installed()
        if self.is_complete or not (installed / _COMPLETE).exists():
            return
        shutil.copytree(installed, self.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_COMPLETE))
        (self.folder / _COMPLETE).touch()


def load(folder: Path) -> None:
    """Load the kernels in a folder, and compile those that it lacks."""
    import numba

    numba.config.CACHE_DIR = str(folder)
    from .exercise import exercise

    exercise()


def finish(folder: Path) -> None:
    """Compile what a folder lacks; afterwards it is complete."""
    if not (folder / _COMPLETE).exists():
        load(folder)
        (folder / _COMPLETE).touch()


def install() -> None:
    """Compile the kernels into the installation, from where servers copy them, for the processor that numba is told."""
    folder = _installed()
    folder.mkdir(parents=True, exist_ok=True)
    finish(folder)


def _installed() -> Path:
    return INSTALLED / digest()


def digest() -> str:
    """Return 32 hexadecimal digits of everything that compiled kernels depend on."""
    hashed = hashlib.sha256()
    for name in ("numba", "llvmlite", "numpy"):
        hashed.update(f"{name} {version(name)}\n".encode())
    hashed.update(f"{sys.implementation.cache_tag} {sys.version}\n{_processor()}\n".encode())
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        hashed.update(f"{path.relative_to(package)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return hashed.hexdigest()[:32]


def _processor() -> str:
    import llvmlite.binding as llvm

    name, features = (os.environ.get(variable) for variable in CPU_VARIABLES)
    checks = os.environ.get("NUMBA_BOUNDSCHECK", "")
    return f"{name or llvm.get_host_cpu_name()} {features or llvm.get_host_cpu_features().flatten()} {checks}"


def _choose_processor() -> None:
    """Compile for this machine if it lacks what the chosen processor has: its code would end the process."""
    import llvmlite.binding as llvm

    wanted = os.environ.get("NUMBA_CPU_FEATURES", "").split(",")
    here = llvm.get_host_cpu_features()
    if any(each.startswith("+") and not here.get(each[1:]) for each in wanted):
        for variable in CPU_VARIABLES:
            os.environ.pop(variable, None)


def _private(base: Path) -> Path:
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = base.stat()
    if found.st_uid != os.geteuid():
        raise KernelError(f"{base} belongs to another user; choose a folder of your own")
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise KernelError(f"others may write to {base}, and so run code here; use chmod 700")
    return base
