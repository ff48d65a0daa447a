"""Run docs/own-models.md from top to bottom: train, import, serve, forecast."""

import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import Client
from statecast.service.cli.importing import import_model
from statecast.service.cli.main import main
from statecast.service.settings import Settings

PAGE = (Path(__file__).parents[1] / "docs" / "own-models.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.servers
def test_from_torch_save_to_a_forecast(
    any_redis: RedisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session_id: str
) -> None:
    monkeypatch.chdir(tmp_path)
    train, ask, lightning, export = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(train, "train", "exec"), names)
    (console,) = blocks("console")
    command, *shown, serve = console.splitlines()
    done = CliRunner().invoke(main, shlex.split(command.removeprefix("$ statecast ")))
    assert done.output.splitlines() == shown
    exec(compile(lightning, "lightning", "exec"), names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its older exporter
        exec(compile(export, "export", "exec"), names)
    _, from_onnx = blocks("sh")
    done = CliRunner().invoke(main, shlex.split(from_onnx.removeprefix("statecast ")))
    assert done.output.splitlines() == [shown[0], "pump version 2 is in models/pump/2"]
    assert serve == "$ statecast serve --models models"
    server = ServerThread(Settings(redis_url=any_redis.url, models=Path("models"), namespace=session_id))
    try:
        exec(compile(ask.replace("localhost:50051", server.target), "ask", "exec"), names)
        with Client(server.target) as client:
            told = client.session("pump-17", model="pump").forecast(6).median.reshape(-1)
            session = client.session("load-1", model="load")
            session.observe([100.0, 120.0, None], covariates=[[5.0], [6.0], [7.0]])
            assert session.forecast(1).quantile(0.9).item() > session.forecast(1).median.item()
    finally:
        server.stop()
    window = torch.tensor([names["temperatures"][-24:]]).unsqueeze(2)
    with torch.inference_mode():
        owner = names["pump"]((window - 21.3) / 4.2)[0] * 4.2 + 21.3
    np.testing.assert_allclose(told, owner.numpy(), atol=1e-5)


def test_every_option_is_told() -> None:
    for option in import_model.params:
        if isinstance(option, click.Option):
            assert f"`{option.opts[0]}" in PAGE, option.opts[0]
