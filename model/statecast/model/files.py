"""A model on disk: <folder>/config.json, model.safetensors and optionally metrics.json."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .classifier import Classifier, ClassifierConfig
from .config import ModelConfig
from .errors import ConfigError, WeightsError
from .forecaster.forecaster import Forecaster
from .imported.config import ImportedConfig
from .imported.imported import Imported
from .versions import version_after

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
METRICS_FILE = "metrics.json"


def bundled_models() -> Path:
    """Return the folder of the models that ship with the package: <name>/<version>/..."""
    return Path(__file__).parent / "bundled"


def next_version(models: Path, name: str) -> str:
    """Return the version after the newest numbered one of a model in a folder of models."""
    return version_after(each.name for each in (models / name).glob("*") if not each.name.startswith("."))


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to write a model to, which then becomes `folder`, since a server may read at any time.

    Raises:
        ConfigError: The folder holds a model already.
    """
    beside = folder.parent / f".{folder.name}.{os.getpid()}"
    try:
        yield beside
        if (folder / CONFIG_FILE).exists():
            raise ConfigError(f"version: {folder} exists already; choose another, or let the next one be chosen")
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def save_model(
    model: Forecaster | Classifier | Imported, folder: Path, metrics: Mapping[str, Any] | None = None
) -> None:
    """Write a model to a folder, which is created if necessary.

    Args:
        model: The model.
        folder: The folder.
        metrics: The model's scores in validation; None writes no metrics.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIG_FILE, model.config.to_dict())
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # Only the owner may read the files of `save_file`, but a server may run as another user.
    (folder / WEIGHTS_FILE).write_bytes(save(tensors))
    if metrics is not None:
        _write_json(folder / METRICS_FILE, metrics)


def load_model(folder: Path, device: torch.device | str = "cpu") -> Forecaster | Classifier | Imported:
    """Read a model, in evaluation mode: a forecaster of quantiles, unless config.json names another kind.

    Args:
        folder: The model's folder.
        device: The device to load the weights to.

    Raises:
        ConfigError: config.json is absent, damaged or wrong.
        WeightsError: model.safetensors is absent, damaged or does not fit the configuration.
    """
    config = _read_config(folder / CONFIG_FILE)
    model = _model_of(config)
    model.load_state_dict(_read_weights(folder / WEIGHTS_FILE, model.state_dict()))
    model.to(device).eval()
    if isinstance(model, Forecaster):
        model.seal()
    return model


def _model_of(config: ModelConfig | ClassifierConfig | ImportedConfig) -> Forecaster | Classifier | Imported:
    if isinstance(config, ModelConfig):
        return Forecaster(config)
    return Imported(config) if isinstance(config, ImportedConfig) else Classifier(config)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _read_config(path: Path) -> ModelConfig | ClassifierConfig | ImportedConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repetitions)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object")
    try:
        if "kind" not in values:
            return ModelConfig.from_dict(values)
        for kind in (ClassifierConfig, ImportedConfig):
            if values["kind"] == kind.KIND:
                return kind.from_dict(values)
        raise ConfigError(f"kind: expected 'classifier' or 'imported', got {values['kind']!r}")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _without_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands there twice")
    return values


def _read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        tensors = load(path.read_bytes())  # not mapped: truncating a mapped file would kill the process
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    for name in sorted(tensors.keys() - expected.keys()):
        raise WeightsError(f"{path}: {name}: unknown tensor")
    for name, tensor in expected.items():
        if name not in tensors:
            raise WeightsError(f"{path}: {name}: missing tensor")
        _check_tensor(path, name, tensors[name], tensor)
    return tensors


def _check_tensor(path: Path, name: str, tensor: Tensor, expected: Tensor) -> None:
    if tensor.dtype != expected.dtype:
        raise WeightsError(f"{path}: {name}: expected {expected.dtype}, got {tensor.dtype}")
    if tensor.shape != expected.shape:
        raise WeightsError(
            f"{path}: {name}: expected shape {list(expected.shape)}, got {list(tensor.shape)}; if an earlier "
            "version of Statecast wrote the model, train it again"
        )
    if not bool(tensor.isfinite().all()):
        raise WeightsError(f"{path}: {name}: holds NaN or infinite values")
