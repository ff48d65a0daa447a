"""Switches the models to compiled kernels, once these are ready."""

import logging
import subprocess
import threading
import time
from pathlib import Path

from statecast.model import Classifier, Forecaster
from statecast.model.kernels.cache import KernelCache, KernelError, are_possible
from statecast.service.errors import StartupError
from statecast.service.metrics import Metrics
from statecast.service.models.registry import Model, Registry

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0


class Kernels:
    """Compiles the kernels in a process of their own, and lets the models on the CPU use them from then on.

    Until then, and where numba is not installed, models run in torch, with the same results up to rounding.
    """

    def __init__(self, registry: Registry, metrics: Metrics, mode: str, base: Path | None, models: Path | None) -> None:
        """Say when to use kernels: auto, on, which waits for them, or off.

        Raises:
            StartupError: if the folder for compiled kernels cannot be used.
        """
        self._registry, self._metrics, self._mode = registry, metrics, mode
        if base is not None and models is not None and base.resolve().is_relative_to(models.resolve()):
            raise StartupError(f"kernel-cache {base} lies in the models folder; choose a folder outside it")
        self._base = base
        self._cache: KernelCache | None = None
        self._build: subprocess.Popen[bytes] | None = None
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kernels", daemon=True)

    def start(self) -> None:
        """Use kernels that are there already; have others compiled, and unless the mode is "on", do not wait.

        Raises:
            StartupError: if kernels must be used, but cannot be.
        """
        if self._mode == "off" or not any(map(_is_fusible, self._registry)):
            return
        if not are_possible():
            if self._mode == "on":
                raise StartupError("kernels are on, but numba is not installed; install it, or use --kernels auto")
            log.info("models run in torch, which is slower, since numba is not installed")
            return
        try:
            self._cache = KernelCache(self._base)
        except KernelError as error:
            raise StartupError(str(error)) from error
        if self._cache.note:
            log.warning("compiled kernels are not kept: %s; choose a folder with --kernel-cache", self._cache.note)
        if self._cache.is_complete:
            self._switch()
        elif self._mode == "on":
            self._work()
            if not self._registry.is_prepared:
                raise StartupError("kernels are on, but could not be compiled; see the log, or use --kernels auto")
        else:
            log.info("kernels are being compiled; until then models run in torch, which is slower")
            self._thread.start()

    def stop(self) -> None:
        """Stop compiling."""
        self._is_stopping.set()
        if self._build is not None and self._build.stdin is not None:
            self._build.stdin.close()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        if self._cache is not None:
            self._cache.close()

    def _work(self) -> None:
        started = time.monotonic()
        try:
            if self._compile() and not self._is_stopping.is_set():
                log.info("kernels were compiled in %.0f s", time.monotonic() - started)
                self._switch()
        except Exception:  # whatever it is, the models run in torch
            log.exception("kernels cannot be used; models run in torch")

    def _compile(self) -> bool:
        """Wait for the process that compiles; return True if it succeeded."""
        if self._cache is None:
            return False
        self._build = self._cache.start_build(is_waited_for=self._mode == "on")
        if self._is_stopping.is_set() and self._build.stdin is not None:
            self._build.stdin.close()
        written = self._build.stderr.read() if self._build.stderr is not None else b""
        if self._build.wait() == 0:
            return True
        if not self._is_stopping.is_set():
            log.error(
                "kernels could not be compiled; models run in torch: %s", written[-2000:].decode(errors="replace")
            )
        return False

    def _switch(self) -> None:
        """Load the kernels, and let the models use them."""
        if self._cache is None:
            return
        self._cache.load()
        self._registry.prepare_with(_fuse)
        self._metrics.kernels_ready.set(1)
        log.info("models on the CPU use compiled kernels")


def _is_fusible(model: Model) -> bool:
    return isinstance(model.forecaster, (Forecaster, Classifier)) and model.forecaster.device.type == "cpu"


def _fuse(model: Model) -> None:
    from statecast.model.kernels.stepping import fuse  # needs numba

    if isinstance(model.forecaster, (Forecaster, Classifier)) and _is_fusible(model):
        fuse(model.forecaster)
