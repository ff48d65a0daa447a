"""`statecast models`, on a real server."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.models import CATEGORIES, COVARIATES, HORIZON, SYMBOLS, write_rich_models
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.service.cli.main import main
from statecast.service.settings import Settings


@pytest.fixture(scope="module")
def rich_server(any_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    folder: Path = write_rich_models(tmp_path_factory.mktemp("rich"))
    server = ServerThread(Settings(redis_url=any_redis.url, models=folder, namespace="rich-models"))
    yield server
    server.stop()


def models(server: ServerThread, *arguments: str) -> Result:
    name, *others = arguments
    return CliRunner().invoke(main, ["models", name, "--target", server.target, *others])


def test_models_are_listed_in_each_format(rich_server: ServerThread) -> None:
    found = json.loads(models(rich_server, "list", "--output", "json").stdout)
    assert [each["name"] for each in found] == ["base", "hourly", "letters", "shop", "three", "tiny"]
    rows = list(csv.DictReader(io.StringIO(models(rich_server, "list", "--output", "csv").stdout)))
    assert [row["digest"] for row in rows] == [each["digest"] for each in found]
    assert json.loads(rows[3]["covariates"]) == list(COVARIATES)
    lines = models(rich_server, "list").stdout.splitlines()
    assert lines[0].split()[:4] == ["NAME", "VERSION", "HORIZON", "FREQUENCY"]
    assert [line.split()[0] for line in lines[1:]] == [each["name"] for each in found]


def test_a_model_is_shown_with_all_that_the_server_tells(rich_server: ServerThread) -> None:
    shop = json.loads(models(rich_server, "show", "shop", "--output", "json").stdout)
    assert list(shop) == [
        "name", "version", "digest", "frequency", "targets", "horizon", "quantile_levels", "cell", "layers",
        "hidden_size", "window", "state_bytes", "covariates", "categories", "classes", "adaptive",
        "aliases", "policy", "retired",
    ]  # fmt: skip
    assert shop["targets"] == ["sold", "returned"]
    assert shop["quantile_levels"] == [0.05, 0.1, 0.5, 0.9, 0.95]
    assert shop["categories"] == {category.name: list(category.values) for category in CATEGORIES}
    assert (shop["frequency"], shop["horizon"], shop["adaptive"]) == ("h", HORIZON, True)
    letters = json.loads(models(rich_server, "show", "letters", "1", "--output", "json").stdout)
    assert letters["classes"] == list(SYMBOLS)
    lines = models(rich_server, "show", "shop").stdout.splitlines()
    assert "quantile_levels  0.05|0.1|0.5|0.9|0.95" in lines
    assert "categories       region=north|south, kind=small|large|huge" in lines


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (("pumps",), "Error: there is no model 'pumps'; there are: base, hourly, letters, shop, three, tiny\n"),
        (("shop", "7"), "Error: model 'shop' has no version '7'; it has: 1\n"),
    ],
)
def test_a_model_that_does_not_exist_is_an_error(rich_server: ServerThread, wanted: tuple[str, ...], says: str) -> None:
    done = models(rich_server, "show", *wanted)
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", says)
