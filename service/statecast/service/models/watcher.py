"""Loads model versions that appear in the models folder while the server runs.

A version is loaded once its files stop changing. Later changes have no effect until a restart, since sessions depend on
it. Each problem in the folder is logged once, for as long as it lasts.
"""

import asyncio
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from statecast.model import ModelError
from statecast.model.files import CONFIG_FILE, WEIGHTS_FILE
from statecast.service.log import AUDIT, with_fields
from statecast.service.metrics import Metrics
from statecast.service.models.registry import Registry, load_folder, version_folders

log = logging.getLogger(__name__)
audit = logging.getLogger(AUDIT)

PAUSE_SECONDS = 1.0
"""Minimum time between two scans of the folder, and for which files must be unchanged."""
RETRY_SECONDS = 60.0
"""Interval at which even unchanged files that failed to load are tried again: memory may have been short."""
STOP_SECONDS = 5.0

Place: TypeAlias = tuple[str, str]
"""Name and version, from the folders' names."""
Files: TypeAlias = tuple[tuple[int, int] | None, ...]
"""Modification time and size of each of a model's files; None where there is none."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that could not be loaded: its files then, the problem, and when to try again at the latest."""

    files: Files
    problem: str
    retry_at: float


class Watcher:
    """Scans the folder every `poll_seconds`, in its own thread, and adds new models to the registry."""

    def __init__(
        self, folder: Path, registry: Registry, metrics: Metrics, device: torch.device, poll_seconds: float
    ) -> None:
        self._folder = folder
        self._registry = registry
        self._metrics = metrics
        self._device = device
        self._poll_seconds = poll_seconds
        self._pause_seconds = min(PAUSE_SECONDS, poll_seconds)
        self._loaded: dict[Place, Files] = {}
        self._seen: dict[Place, Files] = {}
        self._refused: dict[Place, Refused] = {}
        self._problems: set[str] = set()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        # A daemon: a thread that hangs in a network volume must not keep the process alive, as an executor's would.
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)

    def start(self) -> None:
        """Record which versions in the folder are already loaded or broken, and start watching."""
        try:
            for path in version_folders(self._folder):
                if self._registry.find(*_place(path)):
                    self._loaded[_place(path)] = _files(path)
                elif problem := self._registry.broken.get(_place(path)):
                    self._refused[_place(path)] = Refused(_files(path), problem, time.monotonic() + RETRY_SECONDS)
                    self._problems.add(problem)  # already logged
        except OSError as error:  # it was readable a moment ago; the first scan reports it
            log.debug("%s", error)
        self._registry.expect(self.is_coming)
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread; wait for a limited time, because it may be loading a model."""
        self._stopping.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, STOP_SECONDS)
        if self._thread.is_alive():
            log.error("the models folder's watcher did not stop within %g s", STOP_SECONDS)

    def is_coming(self, name: str, version: str) -> bool:
        """Return True if that version is in the folder and not known to be broken, and request a scan.

        Any thread may call it, so it makes only one file system call.
        """
        if any(part.startswith(".") or os.sep in part for part in (name, version)):
            return False
        if (name, version) in self._refused or not os.path.isdir(self._folder / name / version):
            return False
        self._wake.set()
        return True

    def _work(self) -> None:
        is_settled = True
        while not self._stopping.wait(self._pause_seconds):
            if is_settled:
                self._wake.wait(self._poll_seconds - self._pause_seconds)
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                is_settled = self._look()
            except Exception:  # a bug; loaded models must still be served
                log.exception("the models folder could not be scanned")
                is_settled = True

    def _look(self) -> bool:
        """Load new versions; return False if files are still changing."""
        try:
            found = {_place(path): path for path in version_folders(self._folder)}
        except OSError as error:
            problem = f"models folder {self._folder} cannot be read ({error.strerror}); loaded models are still served"
            self._tell(self._problems | {problem})
            return True
        problems = {
            f"{_name(place)} was removed from the models folder; it is served until the server restarts"
            for place in self._loaded.keys() - found.keys()
        }
        seen: dict[Place, Files] = {}
        for place, path in found.items():
            if place in self._loaded or self._registry.find(*place):
                problems |= self._changed(place, _files(path))
            elif not self._stopping.is_set():
                seen[place] = files = _files(path)
                if self._seen.get(place) == files:
                    problems |= self._try(place, path, files)
        is_settled = all(self._seen.get(place) == files for place, files in seen.items())
        self._seen = seen
        self._refused = {place: refused for place, refused in self._refused.items() if seen.get(place) == refused.files}
        self._registry.set_broken({place: refused.problem for place, refused in self._refused.items()})
        self._metrics.show_broken_models(self._registry.broken)
        self._tell(problems)
        return is_settled

    def _changed(self, place: Place, files: Files) -> set[str]:
        """Return the problem if the files of a loaded version have changed."""
        if place not in self._loaded:
            return {f"{_name(place)} is new in the models folder, but another of that name and version is served"}
        if self._loaded[place] == files:
            return set()
        return {f"the files of {_name(place)} have changed, but it is served as loaded; add a new version instead"}

    def _try(self, place: Place, path: Path, files: Files) -> set[str]:
        """Load a version whose files are unchanged since the last scan; return its problem, if any."""
        refused = self._refused.get(place)
        if refused and refused.files == files and time.monotonic() < refused.retry_at:
            return {refused.problem}
        try:
            self._load(place, path, files)
        except Exception as error:
            problem = f"model in {path} cannot be loaded: {error}; the server tries again if its files change"
            if not isinstance(error, ModelError) and problem not in self._problems:
                log.exception("a model could not be loaded")
            self._refused[place] = Refused(files, problem, time.monotonic() + RETRY_SECONDS)
            return {problem}
        return set()

    def _load(self, place: Place, path: Path, files: Files) -> None:
        started = time.perf_counter()
        model = load_folder(path, self._device)
        if _files(path) != files:  # it may be half old, half new
            raise ModelError("its files were changed while they were read")
        self._metrics.add_model(*place, model.digest)  # computes the digest here, so that no request waits for it
        self._registry.add(model)
        self._loaded[place] = files
        told = with_fields(model=place[0], version=place[1], digest=model.digest)
        seconds = time.perf_counter() - started
        audit.info("%s loaded in %.1f s; it is served from now on", model, seconds, extra=told)

    def _tell(self, problems: set[str]) -> None:
        """Log the problems that are new."""
        for problem in sorted(problems - self._problems):
            log.warning("%s", problem)
        self._problems = problems


def _place(path: Path) -> Place:
    name, version = path.parts[-2:]
    return name, version


def _name(place: Place) -> str:
    return f"model {place[0]} version {place[1]}"


def _files(folder: Path) -> Files:
    return tuple(_stamp(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
