"""The benchmark is not installed: it runs from the root of the repository, and uses the kernels of all tests."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True)
def _compiled(kernel_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(kernel_folder.parents[1]))
