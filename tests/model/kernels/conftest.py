"""Compiled kernels, loaded into this process."""

from pathlib import Path

import pytest

from statecast.model.kernels.cache import KernelCache


@pytest.fixture(scope="session")
def kernels(kernel_folder: Path) -> None:
    """Load the kernels."""
    KernelCache(kernel_folder).load()
