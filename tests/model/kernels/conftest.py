"""Compiled kernels, once for all tests."""

from pathlib import Path

import pytest
import torch

from statecast.model.kernels.cache import KernelCache

FOLDER = Path(__file__).parents[3] / ".pytest_cache" / "kernels"


@pytest.fixture(scope="session")
def kernels() -> None:
    """Compile the kernels, in a process that others wait for, and load them."""
    torch.set_num_threads(1)
    FOLDER.parent.mkdir(exist_ok=True)
    cache = KernelCache(FOLDER)
    built = cache.start_build(is_waited_for=True)
    assert built.wait() == 0, built.stderr and built.stderr.read()
    assert cache.is_complete
    cache.load()
