from collections.abc import Iterator
from pathlib import Path

import pytest
from support.redis_process import RedisProcess

from hostile.place import Place, place


@pytest.fixture(scope="package")
def fuzzed(any_redis: RedisProcess, models_folder: Path) -> Iterator[Place]:
    """A server that may be sent anything."""
    with place(any_redis.url, models_folder, "--namespace", "fuzzed") as found:
        yield found
