"""Checkpoints of a running training, as safetensors files, which cannot contain code."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import DataError

_STRUCTURE = "structure"


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoints as safetensors files, with JSON for everything except tensors."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, atomically."""
        tensors: dict[str, Tensor] = {}
        structure = json.dumps(_encoded(checkpoint, tensors))
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        save_file(tensors, unfinished, {_STRUCTURE: structure})
        unfinished.replace(target)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            DataError: The file is damaged.
        """
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        DataError: The file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            checkpoint = _decoded(json.loads(file.metadata()[_STRUCTURE]), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a checkpoint ({error}); delete it to train from the start") from error
    if not isinstance(checkpoint, dict):
        raise DataError(f"{path} is not a checkpoint; delete it to train from the start")
    return checkpoint


def cache_folder() -> Path:
    """Return the user's folder of checkpoints, $XDG_CACHE_HOME/statecast/training, by default in ~/.cache.

    Raises:
        DataError: The user has no home folder.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise DataError("work_dir: there is no home folder to keep checkpoints in; name one by --work-dir") from error
    return cache / "statecast" / "training"


def _encoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a value that JSON can hold: plain values unchanged, others as a list of type and content."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return ["tensor", name]
    if isinstance(value, dict):
        return ["dict", [[_plain(key), _encoded(each, tensors)] for key, each in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_encoded(each, tensors) for each in value]]
    return _plain(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _decoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decoded(each, tensors) for key, each in content}
    items: Iterable[Any] = (_decoded(each, tensors) for each in content)
    return list(items) if kind == "list" else tuple(items)
