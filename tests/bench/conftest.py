"""The benchmark is not installed: it runs from the root of the repository, and uses the kernels of all tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))


@pytest.fixture(scope="package", autouse=True)
def _compiled(kernel_folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(kernel_folder.parents[1]))
        yield
