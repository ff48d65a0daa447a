"""The short examples run, and do what they say."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import follow
import matplotlib.figure
import pandas as pd
import pytest
import quickstart
import sensors
from support.servers import ServerThread

from statecast.client import Client, Forecast, ModelInfo
from statecast.service.settings import Settings

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    """A server with the bundled model."""
    thread = ServerThread(Settings(data_dir=tmp_path_factory.mktemp("redis")))
    yield thread
    thread.stop()


def test_the_quick_start_is_surprised_by_heat(base: ServerThread, capsys: pytest.CaptureFixture[str]) -> None:
    assert quickstart.run(base.target) > 0.98
    assert "in 24 hours" in capsys.readouterr().out


def test_the_broken_sensor_is_found(base: ServerThread) -> None:
    assert sensors.run(base.target, 40) == {"sensor-7"}


def test_a_file_is_followed_and_each_line_counts_once(base: ServerThread, tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text("a,1.0\nb,2.0\na,")

    def write() -> None:
        time.sleep(0.7)
        with path.open("a") as file:
            file.write("3.0\nb,4.0\n")

    thread = threading.Thread(target=write)
    thread.start()
    assert follow.run(path, base.target, quiet_seconds=2.0) == {"a": 2, "b": 2}
    thread.join()
    with path.open("a") as file:
        file.write("a,5.0\n")
    assert follow.run(path, base.target, quiet_seconds=1.0) == {"a": 1}
    with Client(base.target) as client:
        assert client.session("readings/a").info().version.step == 3


def test_the_cells_of_the_notebook_run_from_top_to_bottom(base: ServerThread) -> None:
    """What a cell shows is its last line's value, as in a notebook."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    names: dict[str, object] = {}
    shown = []
    for cell in cells:
        *before, last = "".join(cell["source"]).replace("localhost:50051", base.target).split("\n")
        try:
            value = compile(last, NOTEBOOK.name, "eval")
        except SyntaxError:
            before, value = [*before, last], compile("None", NOTEBOOK.name, "eval")
        exec(compile("\n".join(before), NOTEBOOK.name, "exec"), names)
        shown.append(eval(value, names))
    kinds = [type(each) for each in shown]
    figure = matplotlib.figure.Figure
    assert kinds == [ModelInfo, pd.DataFrame, pd.DataFrame, Forecast, figure, figure, type(None)]
