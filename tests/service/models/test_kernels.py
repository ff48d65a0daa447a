"""The server uses compiled kernels once it has them, and answers the same as before."""

from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from statecast.client import Client
from statecast.service.errors import StartupError
from statecast.service.metrics import Metrics
from statecast.service.models.kernels import Kernels
from statecast.service.models.registry import load_registry
from statecast.testing import LocalServer

VALUES = [3.0, 1.0, np.nan, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def forecasts(target: str, model: str) -> list[np.ndarray]:
    with Client(target) as client:
        session = client.session("session", model)
        return [np.asarray(session.step([value], horizon=3).values) for value in VALUES]


def is_ready(server: LocalServer) -> bool:
    with urlopen(server.metrics_url, timeout=10) as response:
        return "statecast_kernels_ready 1.0" in response.read().decode()


@pytest.mark.parametrize("transport", ["envoy", "grpc"])
def test_answers_by_kernels_are_those_of_torch(
    transport: str, kernel_folder: Path, tmp_path: Path, models_folder: Path
) -> None:
    told = []
    for kernels in ("off", "on"):
        options = ("--kernels", kernels, "--kernel-cache", str(kernel_folder), "--transport", transport)
        with LocalServer("--models", str(models_folder), *options) as server:
            told.append(forecasts(f"127.0.0.1:{server.port}", "base"))
            assert is_ready(server) == (kernels == "on")
    for torch_said, kernels_said in zip(*told, strict=True):
        np.testing.assert_allclose(kernels_said, torch_said, rtol=1e-4, atol=1e-4)


def test_kernels_are_compiled_while_the_server_serves(tmp_path: Path, models_folder: Path) -> None:
    options = ("--kernels", "auto", "--kernel-cache", str(tmp_path / "kernels"), "--models", str(models_folder))
    with LocalServer(*options) as server:
        assert len(forecasts(f"127.0.0.1:{server.port}", "base")) == len(VALUES)
        assert "kernels are being compiled; until then models run in torch" in server.log
        assert not is_ready(server)
    assert "Traceback" not in server.log


def test_where_kernels_cannot_be_a_server_that_needs_them_says_why(
    tmp_path: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    registry = load_registry(models_folder, "base", torch.device("cpu"))
    with pytest.raises(StartupError, match="lies in the models folder; choose a folder outside it"):
        Kernels(registry, Metrics(), "auto", models_folder / "kernels", models_folder)
    tmp_path.chmod(0o777)
    with pytest.raises(StartupError, match=r"kernel-cache .* others may write to"):
        Kernels(registry, Metrics(), "auto", tmp_path, models_folder).start()
    monkeypatch.setattr("statecast.service.models.kernels.are_possible", lambda: False)
    with pytest.raises(StartupError, match="numba is not installed; install it, or use --kernels auto"):
        Kernels(registry, Metrics(), "on", None, models_folder).start()
    Kernels(registry, Metrics(), "auto", None, models_folder).start()
