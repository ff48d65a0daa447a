"""Compiles the kernels into a folder: python -m statecast.model.kernels.build FOLDER [NICENESS].

It ends when its standard input does, so it never outlives the server that started it. A second one waits until the
first has ended.
"""

import fcntl
import os
import sys
import threading
from pathlib import Path

from .cache import finish


def main(folder: Path, niceness: int = 0) -> None:
    """Compile the kernels that the folder lacks."""
    os.nice(niceness)
    threading.Thread(target=_end_with_input, daemon=True).start()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finish(folder)


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
