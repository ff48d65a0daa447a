"""The commands train and evaluate, end to end."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from support import WAIT_SECONDS, await_true
from support.servers import ServerThread

from statecast.client import Client
from statecast.model import Forecaster, load_model
from statecast.model.training import run as running
from statecast.model.training import train as training
from statecast.service.cli import training as commands
from statecast.service.cli.main import main
from statecast.service.settings import Settings

SMALL = ("--updates", "6", "--hidden-size", "8", "--layers", "1", "--threads", "1", "--horizon", "6", "--lag", "24")


def write(path: Path, rows: int = 300) -> Path:
    """Two hourly series with a price and a region."""
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame(
            {
                "unique_id": name,
                "ds": pd.date_range("2024-01-01", periods=rows, freq="h"),
                "y": 20 + 5 * np.sin(2 * np.pi * np.arange(rows) / 24) + rng.normal(size=rows),
                "price": rng.normal(size=rows),
                "region": region,
            }
        )
        for name, region in (("a", "north"), ("b", "south"))
    ]
    pd.concat(parts).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "sales.csv")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A folder with a trained model in it."""
    folder = tmp_path_factory.mktemp("trained")
    done = call("train", data, "--model", "sales", "--models", folder, *SMALL)
    assert done.exit_code == 0, done.output
    assert "sales.csv: 2 series, 600 rows every h" in done.output
    assert f"sales version 1 is in {folder / 'sales' / '1'}" in done.output
    assert "seasonal naive" in done.output
    return folder


def call(*arguments: object, environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env=environment, prog_name="statecast")


def refused(*arguments: object, environment: dict[str, str] | None = None) -> str:
    """Return the one-line error of a command that fails."""
    done = call(*arguments, environment=environment)
    assert done.exit_code in (1, 2), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.output
    line = done.output.splitlines()[-1]
    assert line.startswith("Error: "), done.output
    return line


def test_a_running_server_takes_what_was_trained(tmp_path: Path, data: Path) -> None:
    (tmp_path / "models").mkdir()
    server = ServerThread(Settings(data_dir=tmp_path / "redis", models=tmp_path / "models", models_poll_seconds=0.1))
    try:
        columns = ("--covariate", "price", "--category", "region")
        assert call("train", data, "--model", "shop", "--models", tmp_path / "models", *columns, *SMALL).exit_code == 0
        with Client(server.target) as client:
            await_true(lambda: "shop" in {model.name for model in client.models()})
            found = next(model for model in client.models() if model.name == "shop")
            assert (found.version, found.frequency, found.horizon) == ("1", "h", 6)
    finally:
        server.stop()


def test_covariates_and_categories_are_in_the_model(tmp_path: Path, data: Path) -> None:
    columns = ("--covariate", "price", "--category", "region")
    assert call("train", data, "--model", "m", "--models", tmp_path, *columns, *SMALL).exit_code == 0
    config = load_model(tmp_path / "m" / "1").config
    assert config.covariates == ("price",)
    assert config.categories[0].values == ("north", "south")
    assert call("evaluate", "m", data, "--models", tmp_path, "--windows", "2").exit_code == 0
    other = ("--covariate", "other", "--models", tmp_path)
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(data.read_text().replace("price", "other", 1))
    assert "covariates: m has price, but the data other" in refused("evaluate", "m", renamed, *other)


def test_evaluate_prints_and_writes(tmp_path: Path, data: Path, models: Path) -> None:
    output = tmp_path / "report" / "new"
    done = call("evaluate", "sales", data, "--models", models, "--windows", "4", "--output", output, "--threads", "1")
    assert done.exit_code == 0, done.output
    for text in ("sales 1", "seasonal naive", "last value", "2 series, 4 windows of 6 steps"):
        assert text in done.output
    assert {path.name for path in output.iterdir()} == {"report.json", "fans.png", "reliability.png", "steps.png"}
    report = json.loads((output / "report.json").read_text())
    assert [each["name"] for each in report["forecasters"]] == ["sales 1", "seasonal naive", "last value"]
    for picture in output.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_evaluate_writes_its_forecasts(tmp_path: Path, data: Path, models: Path, suffix: str) -> None:
    path = tmp_path / f"evaluated{suffix}"
    done = call(
        "evaluate", "sales", data, "--models", models, "--first-cutoff", "75%", "--windows", 2, "--season", 6,
        "--season", 12, "--forecasts", path,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert f"{len(table):,} forecasts are in {path}" in done.output
    assert list(table.columns)[:7] == ["forecaster", "unique_id", "cutoff", "step", "ds", "y", "q0.01"]
    names = ["sales 1", "seasonal naive", "last value", "seasonal naive 12"]
    assert table.forecaster.unique().tolist() == names
    file = pd.read_csv(data, parse_dates=["ds"]).set_index(["unique_id", "ds"]).y
    times = pd.to_datetime(table.ds)
    assert file.loc[list(zip(table.unique_id, times, strict=True))].to_numpy() == pytest.approx(table.y.to_numpy())
    naive = table[table.forecaster == "last value"]
    last = file.loc[list(zip(naive.unique_id, pd.to_datetime(naive.cutoff), strict=True))]
    assert naive["q0.5"].to_numpy() == pytest.approx(last.to_numpy())


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("first_cutoff = 40", "2 series, 2 windows"),
        ("first_cutoff = 2024-01-03", "2 series, 2 windows"),
        ('first_cutoff = "50%"\nseason = [6, 12]', "seasonal naive 12"),
    ],
)
def test_a_first_cutoff_in_a_file(tmp_path: Path, data: Path, models: Path, given: str, line: str) -> None:
    config = tmp_path / "evaluate.toml"
    config.write_text(f"windows = 2\n{given}\n")
    done = call("evaluate", "sales", data, "--models", models, "--config", config)
    assert done.exit_code == 0, done.output
    assert line in done.output


def test_days_in_a_zone_are_trained_and_evaluated_as_those_without_one(tmp_path: Path) -> None:
    """Write the same dates without a zone, and as midnights of Berlin in local time and in UTC."""
    days = pd.date_range("2022-06-01", periods=400)
    local = days.tz_localize("Europe/Berlin")
    values = 20 + 5 * np.sin(2 * np.pi * np.arange(400) / 7)
    reports = {}
    for name, times, zone in (
        ("plain", days, ()),
        ("offsets", [day.isoformat() for day in local], ()),
        ("utc", [day.isoformat() for day in local.tz_convert("UTC")], ("--time-zone", "Europe/Berlin")),
    ):
        path = tmp_path / f"{name}.csv"
        pd.DataFrame({"ds": times, "y": values}).to_csv(path, index=False)
        asked = ("--models", tmp_path / name, *zone)
        done = call("train", path, "--model", "sales", *asked, *SMALL[:-2], "--lag", "7")
        assert done.exit_code == 0, done.output
        assert f"{path.name}: 1 series, 400 rows every D" in done.output
        assert ("read as local time: 400" in done.output) == (name != "plain")
        done = call("evaluate", "sales", path, "--windows", "3", "--output", tmp_path / name, *asked)
        assert done.exit_code == 0, done.output
        reports[name] = json.loads((tmp_path / name / "report.json").read_text())["forecasters"][0]["sql"]
    assert reports["plain"] == reports["offsets"] == reports["utc"]
    done = call("evaluate", "sales", tmp_path / "utc.csv", "--models", tmp_path / "utc")
    assert done.exit_code == 1
    assert "--time-zone Europe/Berlin" in done.output


def test_evaluate_tells_what_it_leaves_out(tmp_path: Path, models: Path) -> None:
    longer = pd.read_csv(write(tmp_path / "d.csv", 100))
    short = longer[longer.unique_id == "b"].head(20).assign(unique_id="c")
    pd.concat([longer, short]).to_csv(tmp_path / "d.csv", index=False)
    done = call("evaluate", "sales", tmp_path / "d.csv", "--models", models)
    assert "1 of 3 series left out" in done.output


def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path, data: Path, models: Path) -> None:
    short = write(tmp_path / "short.csv", 11)
    train = ("train", data, "--model", "m", "--models", tmp_path / "m")
    evaluate = ("evaluate", "sales", data, "--models", models)
    for arguments, message in (
        (("train", short, *train[2:], "--horizon", 6), "horizon: 6 steps need series of at least 12"),
        ((*train, "--target", "cost"), "there is no column 'cost'"),
        ((*train, "--time", "when"), "there is no column 'when'"),
        ((*train, "--target", "y", "--covariate", "y"), "column 'y' is given more than one role"),
        ((*train, "--horizon", 200), "horizon: 200 steps need series of at least 400"),
        ((*train, "--validation-rows", 3, "--horizon", 6), "validation_rows: 3 rows are fewer"),
        ((*train, "--frequency", "parsec"), "not a pandas frequency alias"),
        ((*train, "--until", "yesterday"), "yesterday"),
        (("train", data, "--model", "../m"), "name: expected letters"),
        (("train", tmp_path / "none.csv", "--model", "m"), "does not exist"),
        (("train", data), "Missing option '--model'"),
        ((*train, "--from", "nope"), "model: there is no 'nope'"),
        ((*train, "--from", ""), "model: there is no ''"),
        ((*train, "--from", "base", "--layers", 1), "--layers does not go with --from: the weights of base"),
        ((*train, "--from", "base", "--no-calendar"), "--calendar does not go with --from"),
        ((*train, "--from", "base", "--covariate", "price"), "from: base takes no covariates, but the data have"),
        (("evaluate", "nope", data, "--models", models), "model: there is no 'nope'"),
        ((*evaluate, "--horizon", 7), "horizon: 7 is beyond the 6 steps"),
        ((*evaluate, "--windows", 500), "no series has the 3001 rows that 500 windows need"),
        ((*evaluate, "--target", "price", "--target", "y"), "targets: sales has y, but the data price, y"),
        ((*evaluate, "--first-cutoff", 0), "first_cutoff: nothing has been seen at 0"),
        ((*evaluate, "--first-cutoff", "100%"), "first_cutoff: expected a share between 0 and 1"),
        ((*evaluate, "--first-cutoff", "2031-01-01"), "no series has a row before 2031-01-01"),
    ):
        assert message in refused(*arguments), arguments
    assert not (tmp_path / "m").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, data: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refused("train", data, "--model", "m", "--models", tmp_path / "file" / "models", *SMALL)
    assert str(tmp_path / "file") in message


def test_auto_ets_needs_its_package(monkeypatch: pytest.MonkeyPatch, data: Path, models: Path) -> None:
    monkeypatch.setattr("statecast.model.evaluation.has_auto_ets", lambda: False)
    message = refused("evaluate", "sales", data, "--models", models, "--auto-ets")
    assert "the extra 'bench'" in message


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Record the arguments of each training that a command starts, without running it."""
    seen: list[dict[str, object]] = []

    def stop(panel, name, models, wishes, recipe, **options):  # type: ignore[no-untyped-def]
        seen.append({"name": name, "models": models, **vars(wishes), **vars(recipe), **options, "panel": panel})
        raise click.Abort

    monkeypatch.setattr(running, "make_model", stop)
    return seen


def test_options_come_from_file_environment_and_command_line(
    tmp_path: Path, data: Path, asked: list[dict[str, object]]
) -> None:
    config = tmp_path / "train.toml"
    config.write_text(
        'model = "file"\nlag = [24, 168]\ncovariate = ["price"]\nhorizon = 7\nupdates = 70\nadapt = false\n'
        'learning_rate = 1\ncell = "gru"\nvalidation_rows = 70\n'
    )
    environment = {
        "STATECAST_TRAIN_HORIZON": "8",
        "STATECAST_TRAIN_UPDATES": "80",
        "STATECAST_TRAIN_TARGET": "y",
        "STATECAST_TRAIN_REFIT": "1",
        "STATECAST_TRAIN_CONFIG": str(config),
        "STATECAST_TRAIN_LAG": "24 48",
        "STATECAST_TRAIN_CALENDAR": "false",
    }
    call("train", data, "--updates", 90, environment=environment)
    got = asked[0]
    assert (got["name"], got["horizon"], got["updates"], got["lags"]) == ("file", 8, 90, (24, 48))
    assert (got["adapt"], got["calendar"], got["refit"], got["learning_rate"]) == (False, False, True, 1.0)
    assert (got["cell"], got["validation_rows"], got["seed"]) == ("gru", 70, 0)
    call("train", data, "--config", config)
    assert (asked[1]["lags"], asked[1]["horizon"]) == ((24, 168), 7)


def test_with_from_the_rate_is_lower_unless_it_is_named(data: Path, asked: list[dict[str, object]]) -> None:
    for others in ((), ("--learning-rate", "0.01")):
        call("train", data, "--model", "m", "--from", "base", *others)
    assert [each["learning_rate"] for each in asked] == [3e-4, 0.01]
    starts = [each["start"] for each in asked]
    assert all(isinstance(each, Forecaster) and each.config.name == "base" for each in starts)
    call("train", data, "--model", "m")
    assert (asked[2]["learning_rate"], asked[2]["start"]) == (2e-3, None)


def test_every_option_is_a_variable_and_a_key() -> None:
    for command in ("train", "evaluate"):
        for option in main.commands[command].params:
            if isinstance(option, click.Option) and option.expose_value:
                assert option.name == option.opts[0].removeprefix("--").replace("-", "_")
                assert option.allow_from_autoenv


def test_evaluate_takes_them_too(tmp_path: Path, data: Path, models: Path) -> None:
    config = tmp_path / "evaluate.toml"
    config.write_text(f'windows = 3\nstep = 2\nmodels = "{models}"\n')
    done = call("evaluate", "sales", data, "--config", config, environment={"STATECAST_EVALUATE_STEP": "4"})
    assert "3 windows of 6 steps, 4 apart" in done.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("horizont = 3", "unknown options: horizont"),
        ("config = 3", "unknown options: config"),
        ('horizon = "3"', "horizon is '3'; expected a whole number"),
        ("horizon = true", "horizon is True; expected a whole number"),
        ("lag = 24", "lag is 24; expected a list"),
        ('lag = ["24"]', "lag is ['24']; expected a list, each a whole number"),
        ('adapt = "no"', "adapt is 'no'; expected true or false"),
        ("model = 5", "model is 5; expected text"),
        ('learning_rate = "x"', "learning_rate is 'x'; expected a number"),
        ("horizon = 0", "0 is not in the range x>=1"),
        ("horizon = ", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_by_key(tmp_path: Path, data: Path, line: str, message: str) -> None:
    config = tmp_path / "train.toml"
    config.write_text(line + "\n")
    assert message in refused("train", data, "--model", "m", "--config", config)


def test_the_variables_of_serve_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def stop(settings: Settings) -> None:
        seen.append(settings)
        raise click.Abort

    monkeypatch.setattr("statecast.service.server.run", stop)
    environment = {
        "STATECAST_NAMESPACE": "mine",
        "STATECAST_TRANSPORT": "grpc",
        "STATECAST_PORT": "7",
        "STATECAST_SERVE_PORT": "tcp://10.0.0.1:50051",  # Kubernetes sets this for a Service of that name
        "STATECAST_VERSION": "0.1.0",
    }
    call("serve", environment=environment)
    assert (seen[0].namespace, seen[0].port) == ("mine", 7)


@pytest.mark.slow
def test_ctrl_c_and_the_same_command_goes_on(tmp_path: Path, data: Path) -> None:
    models, work = tmp_path / "models", tmp_path / "work"
    folders = ("--models", str(models), "--work-dir", str(work))
    arguments = ("train", str(data), "--model", "m", *folders, *SMALL[2:], "--updates", "200")
    command = [sys.executable, "-m", "statecast.service", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        await_true(lambda: any(work.glob("*/last.ckpt")) or process.poll() is not None)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert "updates; the same command resumes the training" in said.splitlines()[-1]
    stopped = int(said.splitlines()[-1].split(" updates")[0].split()[-1])
    assert 100 <= stopped < 200
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    metrics = json.loads((models / "m" / "1" / "metrics.json").read_text())
    assert metrics["training"]["updates_made"] > stopped
    assert {path.name for path in models.iterdir()} == {"m"}
    assert not list(work.iterdir())


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_progress_in_a_log_is_whole_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path, models: Path, seconds: float
) -> None:
    monkeypatch.setattr(commands, "SECONDS_A_LINE", seconds)
    monkeypatch.setattr(training, "SECONDS_A_LINE", seconds)
    trained = call("train", data, "--model", "sales", "--models", tmp_path, *SMALL)
    evaluated = call("evaluate", "sales", data, "--models", models, "--windows", "2")
    for done, line in ((trained, "update 3 of 6"), (evaluated, r"series streamed: \d of 2")):
        assert done.exit_code == 0, done.output
        assert "\r" not in done.output
        assert "Epoch" not in done.output
        assert bool(re.search(line, done.stderr)) is (seconds == 0)
