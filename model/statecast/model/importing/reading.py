"""Reads the tensors of a file of weights: safetensors, or a state dict that torch.save has written."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..errors import WeightsError

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
_NESTED = ("state_dict", "model_state_dict", "model")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name. Nothing in the file is executed.

    Raises:
        WeightsError: The file cannot be read, or holds no state dict.
    """
    if path.suffix == ".safetensors":
        try:
            return load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path}: cannot be read: {error}") from error
    if path.suffix not in TORCH_SUFFIXES:
        raise WeightsError(f"{path}: expected a file .safetensors, or one of torch.save ({', '.join(TORCH_SUFFIXES)})")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than tensors, and loading it could run any code. Where its classes are, load it and "
            "save only the weights: torch.save(model.state_dict(), 'weights.pt')"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    return _tensors_in(path, found)


def _tensors_in(path: Path, found: Any) -> dict[str, Tensor]:
    """Return the state dict, also of a checkpoint, such as Lightning's."""
    if isinstance(found, Mapping):
        for key in _NESTED:
            if isinstance(found.get(key), Mapping):
                return _tensors_in(path, found[key])
        if found and all(isinstance(each, Tensor) for each in found.values()):
            return {str(name): tensor for name, tensor in found.items()}
    raise WeightsError(f"{path}: expected a state dict, names with tensors; save model.state_dict()")
