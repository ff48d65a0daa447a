"""`statecast serve` with the chain model and a tiny LSTM: python -m support.hash_model_server, same options.

The variable TORTURE_HOLD may name a file. Once that file appears, the next batch of the chain model stops between load
and commit and adds the suffix `.held` to the file's name. The batch goes on when that file is gone.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from statecast.model import State
from statecast.service.cli.main import setting_options
from statecast.service.envoy import launcher
from statecast.service.envoy.inside import Inside
from statecast.service.log import configure_logging
from statecast.service.models.registry import Model, Registry
from statecast.service.server import run
from statecast.service.settings import Settings
from support.hash_model import HashModel, HashTrace
from support.models import tiny_model

HOLD_VARIABLE = "TORTURE_HOLD"
HELD_SUFFIX = ".held"
LONGEST_HOLD_SECONDS = 60.0


class HeldHashModel(HashModel):
    """A chain model whose batches stop while a file exists."""

    def __init__(self, hold: Path) -> None:
        super().__init__()
        self._hold = hold
        self._held = hold.with_name(hold.name + HELD_SUFFIX)

    def advance(self, state: State, values: Tensor, lengths: Tensor | None = None, **_: Tensor | None) -> HashTrace:
        trace = super().advance(state, values, lengths)
        if values.shape[1] and self._hold.exists():
            self._hold.rename(self._held)
            deadline = time.monotonic() + LONGEST_HOLD_SECONDS
            while self._held.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
        return trace


def load_models(folder: Path | None, default: str, device: torch.device, *, require_all: bool) -> Registry:
    """Return a registry of the chain model, which is the default, and the tiny LSTM."""
    hold = os.environ.get(HOLD_VARIABLE)
    chain = HeldHashModel(Path(hold)) if hold else HashModel()
    return Registry([Model(chain), Model(tiny_model())], "chain")


app = Inside(load_models)
"""The same server inside Envoy."""


@click.command()
@setting_options
def main(**options: Any) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    settings = Settings(**options)
    configure_logging(settings.log_level, settings.log_format)
    if settings.transport == "envoy":
        asyncio.run(launcher.run(settings, "support.hash_model_server:app"))
    else:
        asyncio.run(run(settings, load_models))


if __name__ == "__main__":
    main()
