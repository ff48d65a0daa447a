"""The files of deploy/ are not installed: they are read, and imported, from the root of the repository."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2]))


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[dict[str, Any]]]:
    """What Helm makes of all values of the chart."""
    from deploy.charts import VALUES, render

    return {name: render(values) for name, values in VALUES.items()}
