"""Loads the model versions that appear in the models folder while the server runs.

A version is loaded once its files stand still, and stays as it was loaded for as long as the server runs: sessions
stand on it. What is wrong in the folder is told once, for as long as it stays so.
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
from statecast.service.metrics import Metrics
from statecast.service.models.registry import Registry, load_folder, version_folders

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Between two looks, however many ask for one, and how long files must stand still."""
RETRY_SECONDS = 60.0
"""After this long even unchanged files that could not be loaded are tried again: memory may have been short."""
STOP_SECONDS = 5.0

Place: TypeAlias = tuple[str, str]
"""Name and version, as the folders tell them."""
Files: TypeAlias = tuple[tuple[int, int] | None, ...]
"""Time of the last change and size of each file that a model is loaded from; None where there is none."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that could not be loaded: as its files were, why, and when to try again at the latest."""

    files: Files
    problem: str
    retry_at: float


class Watcher:
    """Looks at the folder every `poll_seconds`, in a thread of its own, and adds to the registry what it finds."""

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
        # A thread that hangs in a network volume must not keep the process, as an executor's would.
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)

    def start(self) -> None:
        """Take what is in the folder and in the registry as loaded from there, and watch for more."""
        try:
            for path in version_folders(self._folder):
                if self._registry.find(*_place(path)):
                    self._loaded[_place(path)] = _files(path)
                elif problem := self._registry.broken.get(_place(path)):
                    self._refused[_place(path)] = Refused(_files(path), problem, time.monotonic() + RETRY_SECONDS)
                    self._problems.add(problem)  # which the log has already
        except OSError as error:  # it was there a moment ago; the first look tells more
            log.debug("%s", error)
        self._registry.expect(self.is_coming)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread; bounded, because it may be loading a model."""
        self._stopping.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, STOP_SECONDS)
        if self._thread.is_alive():
            log.error("the models folder's thread did not stop within %g s", STOP_SECONDS)

    def is_coming(self, name: str, version: str) -> bool:
        """Whether that version, which is not loaded, lies in the folder and is not known to be unfit; has it loaded.

        Asked by any thread, so no more than one look at the file system.
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
            except Exception:  # a defect; what is loaded is served all the same
                log.exception("the models folder could not be looked at")
                is_settled = True

    def _look(self) -> bool:
        """Load what is new; whether nothing was found in the middle of a change."""
        try:
            found = {_place(path): path for path in version_folders(self._folder)}
        except OSError as error:
            problem = f"models folder {self._folder} cannot be read ({error.strerror}); what is loaded is served on"
            self._tell(self._problems | {problem})
            return True
        problems = {
            f"{_name(place)} has gone from the models folder; it is served until the server ends"
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
        """What is wrong with the files of a version that is loaded."""
        if place not in self._loaded:
            return {f"{_name(place)} is in the models folder now, but another one of that name and version is served"}
        if self._loaded[place] == files:
            return set()
        return {f"the files of {_name(place)} have changed; it is served as it was loaded: use another version"}

    def _try(self, place: Place, path: Path, files: Files) -> set[str]:
        """Load a version whose files stand still; what is wrong with it."""
        refused = self._refused.get(place)
        if refused and refused.files == files and time.monotonic() < refused.retry_at:
            return {refused.problem}
        try:
            self._load(place, path, files)
        except Exception as error:
            problem = f"model in {path} cannot be loaded, and is tried again once its files change: {error}"
            if not isinstance(error, ModelError) and problem not in self._problems:
                log.exception("a model could not be loaded")
            self._refused[place] = Refused(files, problem, time.monotonic() + RETRY_SECONDS)
            return {problem}
        return set()

    def _load(self, place: Place, path: Path, files: Files) -> None:
        started = time.perf_counter()
        model = load_folder(path, self._device)
        if _files(path) != files:  # half of it may be older than the rest
            raise ModelError("its files were changed while they were read")
        self._metrics.add_model(*place, model.digest)  # computes the digest, so that no request has to wait for it
        self._registry.add(model)
        self._loaded[place] = files
        log.info("%s loaded in %.1f s; it is served from now on", model, time.perf_counter() - started)

    def _tell(self, problems: set[str]) -> None:
        """Log what is wrong now and was not before."""
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
