"""`statecast models import`, and servers of what it has made."""

import io
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from support.redis_process import RedisProcess
from support.servers import ServerThread
from torch import nn

from statecast.client import Client, InvalidArgument
from statecast.model import Imported, load_model
from statecast.service.cli.main import main
from statecast.service.settings import Settings

CENTRE, SCALE, WINDOW = 21.3, 4.2, 12
VALUES = [float(value) for value in CENTRE + SCALE * np.sin(np.arange(60) / 3)]


def owners() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"lstm": nn.LSTM(1, 8, 2, batch_first=True), "fc": nn.Linear(8, 3)})


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["models", "import", *map(str, arguments)])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("import")
    save_file(owners().state_dict(), folder / "weights.safetensors")
    done = call(
        folder / "weights.safetensors", "--name", "pump", "--targets", "temperature", "--scale", f"{CENTRE},{SCALE}",
        "--window", str(WINDOW), "--models", folder / "models",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "lstm, 2 layers of 8, over the last 12 inputs; inputs: temperature; points, 3 steps ahead; missing values: "
        "refuse",
        f"pump version 1 is in {folder / 'models' / 'pump' / '1'}",
    ]
    return folder / "models"


@pytest.fixture
def replicas(any_redis: RedisProcess, models: Path, session_id: str) -> Iterator[list[ServerThread]]:
    settings = Settings(redis_url=any_redis.url, models=models, namespace=session_id)
    servers = [ServerThread(settings) for _ in range(2)]
    yield servers
    for server in servers:
        server.stop()


def owner(end: int) -> list[float]:
    """Return the forecast of the owner's own loop after some of the values."""
    modules = owners()
    scaled = (torch.tensor(VALUES[end - WINDOW : end]) - CENTRE) / SCALE
    with torch.inference_mode():
        output, _ = modules["lstm"](scaled.view(1, -1, 1))
        told: list[float] = (modules["fc"](output[:, -1])[0] * SCALE + CENTRE).tolist()
    return told


def test_two_replicas_serve_it_exactly_once(replicas: list[ServerThread]) -> None:
    with Client(replicas[0].target) as first, Client(replicas[1].target) as second:
        one, other = first.session("pump-17", model="pump"), second.session("pump-17", model="pump")
        one.observe(VALUES[:30])
        for end in range(31, 61):
            session = one if end % 3 else other
            told = session.step(VALUES[end - 1], 3)
            np.testing.assert_allclose(told.median.reshape(-1), owner(end), atol=1e-5)
        receipt = one.observe(20.0, request_id="mine")
        again = other.observe(20.0, request_id="mine")
        assert again.replayed
        assert receipt.version == again.version
        assert receipt.version.step == 61
        explained = one.observe(21.0, explain=True)
        assert explained.gates is not None
        assert explained.gates.names == ("input", "forget", "candidate", "output")
        with pytest.raises(InvalidArgument, match="NaN for temperature in row 1, but pump version 1 refuses missing"):
            one.observe([20.0, None])
        (info,) = [each for each in first.models() if each.name == "pump"]
        assert (info.targets, info.horizon, info.window, info.cell) == (("temperature",), 3, WINDOW, "lstm")
        with urlopen(replicas[0].metrics_url, timeout=10) as response:
            metrics = response.read().decode()
        assert 'statecast_observations_total{model="pump",model_version="1"}' in metrics
        early = first.session("pump-18", model="pump").step(VALUES[:5], 3)
        assert np.isnan(early.median).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--window: name the way of training"),
        (["--window", "3", "--scale", "1"], "'1' has 1 numbers, expected 2: CENTRE,SCALE"),
        (["--window", "3", "--scale", "1,x"], "'1,x' is not numbers"),
        (["--window", "3", "--targets", "a,,b"], "'a,,b' has an empty name"),
        (["--window", "3", "--covariates", "load"], "weight_ih_l0: takes 1 inputs at each step, but there are 2"),
        (["--stateful", "--min-max", "3,1"], "--min-max: expected a high value above the low one for value"),
        (["--stateful", "--output", "quantile"], "--quantile-levels: name the levels"),
    ],
    ids=["mode", "pair", "number", "name", "covariate", "range", "levels"],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    torch.save(owners().state_dict(), tmp_path / "weights.pt")
    done = call(tmp_path / "weights.pt", "--name", "pump", "--models", tmp_path / "models", *arguments)
    assert done.exit_code != 0
    assert message in done.output
    assert not list(tmp_path.glob("models/*/*"))


def test_every_option_reaches_the_model(tmp_path: Path) -> None:
    modules = nn.ModuleDict({"rnn": nn.RNN(4, 8, nonlinearity="relu"), "a": nn.Linear(8, 5), "b": nn.Linear(5, 2)})
    buffer = io.BytesIO()
    torch.save(modules.state_dict(), buffer)
    (tmp_path / "w.pth").write_bytes(buffer.getvalue())
    done = call(
        tmp_path / "w.pth", "--name", "flow", "--version", "7", "--models", tmp_path, "--stateful", "--targets", "flow",
        "--covariates", "load", "--inputs", "load,flow@2,day_sin,flow", "--min-max", "0,10", "--min-max", "0,4",
        "--min-max-range", "-1,1", "--log1p", "--difference", "1", "--frequency", "h", "--output", "normal", "--spread",
        "variance", "--quantile-levels", "0.1,0.9", "--order", "number,horizon,target", "--missing", "zero",
        "--activations", "tanh,relu,identity", "--nonlinearity", "relu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    model = load_model(tmp_path / "flow" / "7")
    assert isinstance(model, Imported)
    expected = {
        "cell": "rnn", "nonlinearity": "relu", "features": ("load", "flow", "day_sin", "flow"),
        "feature_lags": (0, 2, 0, 0), "centres": (5.0, 2.0), "scales": (5.0, 2.0), "transform": "log1p",
        "difference": 1, "frequency": "h", "output": "normal", "spread": "variance", "quantile_levels": (0.1, 0.9),
        "missing": "zero", "head_activations": ("tanh", "relu", "identity"), "run_steps": 0, "horizon": 1,
    }  # fmt: skip
    assert {key: getattr(model.config, key) for key in expected} == expected
