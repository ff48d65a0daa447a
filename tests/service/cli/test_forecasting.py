"""The command forecast, and that its numbers are those of a server."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from support.models import tiny_model, write_rich_models
from support.servers import ServerThread

from statecast.client import Client, Forecast
from statecast.model import save_model
from statecast.service.cli.main import main
from statecast.service.settings import Settings

ROWS = 60


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rich_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    thread = ServerThread(Settings(data_dir=tmp_path_factory.mktemp("redis"), models=models))
    yield thread
    thread.stop()


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["forecast", *map(str, arguments)], prog_name="statecast")


def frame(rows: int = ROWS, start: str = "2024-03-30") -> pd.DataFrame:
    """Two series, of which b ends earlier."""
    times, random = pd.date_range(start, periods=rows, freq="h"), np.random.default_rng(0)
    parts = [
        pd.DataFrame({"unique_id": name, "ds": times[:length], "y": random.normal(10, 2, length).round(2)})
        for name, length in (("a", rows), ("b", rows - 7))
    ]
    return pd.concat(parts)


def test_the_numbers_are_those_of_a_server(tmp_path: Path, models: Path, server: ServerThread) -> None:
    given = frame()
    given.to_csv(tmp_path / "data.csv", index=False)
    done = call("hourly", tmp_path / "data.csv", "--models", models, "--output", tmp_path / "out.csv")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"forecasts of 2 series, 6 steps each, are in {tmp_path / 'out.csv'}"
    made = pd.read_csv(tmp_path / "out.csv", parse_dates=["ds"])
    with Client(server.target) as client:
        expected = client.step_frame(given, 6, "hourly")
    assert list(made.columns) == list(expected.columns)
    assert made.iloc[:, :2].to_numpy().tolist() == expected.iloc[:, :2].to_numpy().tolist()
    assert made.iloc[:, 2:].to_numpy() == pytest.approx(expected.iloc[:, 2:].to_numpy(), abs=1e-4)


def test_covariates_of_rows_after_the_last_value_count(tmp_path: Path, models: Path, server: ServerThread) -> None:
    random, times = np.random.default_rng(1), pd.date_range("2024-01-01", periods=ROWS, freq="h")
    columns = ("sold", "returned", "price", "holiday")
    given = pd.DataFrame(random.normal(5, 1, (ROWS, 4)), columns=pd.Index(columns)).assign(
        ds=times, unique_id="a", region="north", kind="large"
    )
    given.loc[ROWS - 6 :, ["sold", "returned"]] = np.nan
    given.to_parquet(tmp_path / "data.parquet")
    out = tmp_path / "out.parquet"
    done = call("shop", tmp_path / "data.parquet", "--models", models, "--output", out, "--horizon", 4)
    assert done.exit_code == 0, done.output
    made = pd.read_parquet(out)
    known, shown = given[["price", "holiday"]].to_numpy(), ROWS - 6
    with Client(server.target) as client:
        session = client.session("a shop", model="shop", categories={"region": "north", "kind": "large"})
        forecast: Forecast = session.step(
            given[["sold", "returned"]].to_numpy()[:shown], 4, times=times[:shown],
            covariates=known[:shown], future_covariates=known[shown : shown + 4],
        )  # fmt: skip
    assert made.ds.tolist() == times[shown : shown + 4].tolist()
    assert made["returned_q0.9"].to_numpy() == pytest.approx(forecast.values[:, 3, 1], abs=1e-4)
    assert made["sold_q0.05"].to_numpy() == pytest.approx(forecast.values[:, 0, 0], abs=1e-4)


def test_without_times_steps_are_numbered_and_pictures_are_drawn(tmp_path: Path, models: Path) -> None:
    frame().drop(columns="ds").rename(columns={"unique_id": "meter"}).to_csv(tmp_path / "data.csv", index=False)
    options = ("--id", "meter", "--no-time", "--output", tmp_path / "out.csv", "--plot", tmp_path / "fans.png")
    done = call("tiny", tmp_path / "data.csv", "--models", models, *options, "--horizon", 2)
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "out.csv")[["meter", "step"]].to_numpy().tolist() == [
        ["a", 1], ["a", 2], ["b", 1], ["b", 2],
    ]  # fmt: skip
    assert (tmp_path / "fans.png").stat().st_size > 10_000


def test_times_are_in_the_zone_that_was_named(tmp_path: Path, models: Path) -> None:
    given = frame(23, "2024-03-30T03:00")  # up to the hour before the one that clocks skip
    given[given.unique_id == "a"].to_csv(tmp_path / "data.csv", index=False)
    options = ("--time-zone", "Europe/Berlin", "--horizon", 2, "--plot", tmp_path / "fans.svg")
    done = call("hourly", tmp_path / "data.csv", "--models", models, "--output", tmp_path / "out.csv", *options)
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "out.csv").ds.tolist() == ["2024-03-31 03:00:00+02:00", "2024-03-31 04:00:00+02:00"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(("--output", "out.xlsx"), "out.xlsx must end in .csv or .parquet", id="kind"),
        pytest.param(("--output", "nowhere/out.csv"), "the folder nowhere does not exist", id="folder"),
        pytest.param(("--output", "out.csv", "--plot", "a.gif"), "a.gif must end in .png or .pdf or .svg", id="plot"),
        pytest.param(("--output", "out.csv", "--horizon", "7"), "7 is beyond the 6 steps that hourly", id="horizon"),
        pytest.param((), "Missing option '--output'", id="none"),
    ],
)
def test_what_cannot_be_done_is_refused(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    frame().to_csv("data.csv", index=False)
    done = call("hourly", "data.csv", "--models", models, *options)
    assert done.exit_code != 0
    assert says in " ".join(done.output.split())
    assert not Path("out.csv").exists()


def test_series_without_values_of_every_target_are_left_out(tmp_path: Path) -> None:
    save_model(tiny_model("three"), tmp_path / "three" / "1")
    given = frame().assign(flow=1.0, pressure=2.0, heat=3.0).drop(columns="y")
    given.loc[given.unique_id == "b", "heat"] = np.nan
    given.to_csv(tmp_path / "data.csv", index=False)
    done = call("three", tmp_path / "data.csv", "--models", tmp_path, "--output", tmp_path / "out.csv")
    assert done.exit_code == 0, done.output
    assert "1 of 2 series left out: no value of some target" in done.output
    assert set(pd.read_csv(tmp_path / "out.csv").unique_id) == {"a"}
