from collections.abc import Iterator

import pytest
from support.models import write_rich_models
from support.redis_process import RedisProcess

from fuzz.place import Place, place


@pytest.fixture(scope="package")
def fuzzed(any_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run a server for any input."""
    models = write_rich_models(tmp_path_factory.mktemp("rich-models"))
    with place(any_redis.url, models, "--namespace", "fuzzed") as found:
        yield found
