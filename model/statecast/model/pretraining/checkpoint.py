"""A training's progress, and its checkpoint: a safetensors file, since nothing is pickled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

MOST_POINTS = 40
DECAY_FROM = 0.65
"""The share of all batches after which the learning rate decays; before, their number makes no difference."""


@dataclass
class Progress:
    """The loss of each batch so far, and the seconds that they took."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def batches(self) -> int:
        """The number of batches done."""
        return len(self.losses)

    def add(self, loss: float, seconds: float) -> None:
        """Count another batch."""
        self.losses.append(loss)
        self.seconds += seconds

    def summary(self) -> dict[str, Any]:
        """Return the seconds taken, and the mean loss up to some numbers of batches, each since the one before."""
        stops = np.linspace(0, self.batches, min(self.batches, MOST_POINTS) + 1).astype(int)
        means = [[int(stop), round(float(np.mean(self.losses[start:stop])), 4)] for start, stop in pairwise(stops)]
        return {"took_seconds": round(self.seconds), "loss_after_batches": means}

    def save(
        self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Mapping[str, object]
    ) -> None:
        """Write a checkpoint, which replaces an earlier one."""
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for at, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{at}.{name}": tensor for name, tensor in moments.items()}
        told = {"losses": self.losses, "seconds": self.seconds, "settings": dict(settings)}
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(save(tensors, {"progress": json.dumps(told)}))
        beside.replace(path)

    @staticmethod
    def resumed(
        path: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Mapping[str, object]
    ) -> "Progress":
        """Return the progress of a checkpoint, whose weights and moments are loaded; a new one if there is no file.

        Raises:
            ValueError: The checkpoint is of a training with other settings.
        """
        if path is None or not path.exists():
            return Progress()
        with safe_open(path, "pt") as file:
            told = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        saved = told["settings"]
        if len(told["losses"]) <= DECAY_FROM * min(saved["batches"], int(str(settings["batches"]))):
            saved = saved | {"batches": settings["batches"]}
        if saved != dict(settings):
            raise ValueError(f"checkpoint: {path} is of a training with other settings; choose another file")
        prefix = "model."
        model.load_state_dict({n.removeprefix(prefix): each for n, each in tensors.items() if n.startswith(prefix)})
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, at, key = name.split(".")
                state.setdefault(int(at), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return Progress(told["losses"], told["seconds"])
