"""The models that this server runs: the bundled one, and those in the operator's folder."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from statecast.model import (
    Frequency,
    ModelConfig,
    ModelError,
    StreamingModel,
    bundled_models,
    load_model,
)
from statecast.service.errors import NotFound, Reason, StartupError, quoted

log = logging.getLogger(__name__)

BUNDLED = "base"


@dataclass(frozen=True)
class Model:
    """A loaded model."""

    forecaster: StreamingModel

    @property
    def config(self) -> ModelConfig:
        """What the model takes and gives."""
        return self.forecaster.config

    @cached_property
    def digest(self) -> str:
        """The digest of configuration and weights, in hexadecimal."""
        return self.forecaster.digest

    @cached_property
    def digest_bytes(self) -> bytes:
        """The same as 32 bytes."""
        return bytes.fromhex(self.digest)

    @property
    def labels(self) -> tuple[str, str]:
        """The labels `model` and `model_version` of metrics."""
        return self.config.name, self.config.version

    @cached_property
    def frequency(self) -> Frequency | None:
        """The time between two steps; None if only position counts."""
        return Frequency.parse(self.config.frequency) if self.config.frequency else None

    def __str__(self) -> str:
        return f"{self.config.name} version {self.config.version}"


class Registry:
    """All models by name and version."""

    def __init__(self, models: list[Model], default: str) -> None:
        self._models: dict[str, dict[str, Model]] = {}
        for model in models:
            self._models.setdefault(model.config.name, {})[model.config.version] = model
        if default not in self._models:
            raise StartupError(f"default-model {default!r} is not there; there are: {', '.join(self._models)}")
        self.default = default

    def get(self, name: str, version: str) -> Model:
        """The model of that name, or the default one; of that version, or the newest one.

        Raises:
            NotFound: if there is none.
        """
        versions = self._models.get(name or self.default)
        if not versions:
            raise NotFound(
                f"there is no model {quoted(name)}; there are: {', '.join(sorted(self._models))}",
                Reason.MODEL_NOT_FOUND,
            )
        if version and version not in versions:
            raise NotFound(
                f"model {quoted(name or self.default)} has no version {quoted(version)}; it has: {', '.join(versions)}",
                Reason.MODEL_NOT_FOUND,
            )
        return versions[version or max(versions, key=_age)]

    def find(self, name: str, version: str) -> Model | None:
        """Exactly that model, if it is loaded."""
        return self._models.get(name, {}).get(version)

    def __iter__(self) -> Iterator[Model]:
        """By name, each one's newest version first."""
        for name in sorted(self._models):
            versions = self._models[name]
            yield from (versions[version] for version in sorted(versions, key=_age, reverse=True))


def load_registry(folder: Path | None, default: str, device: torch.device) -> Registry:
    """Load the bundled model and those in `folder`, one in each <name>/<version>/.

    Raises:
        StartupError: if the folder is missing or a model in it cannot be loaded.
    """
    folders = list(_model_folders(bundled_models()))
    if folder is not None:
        if not folder.is_dir():
            raise StartupError(f"models folder {folder} does not exist")
        found = list(_model_folders(folder))
        if not found:
            log.warning(
                "models folder %s holds no <name>/<version>/config.json; only %r is served",
                folder,
                BUNDLED,
            )
        folders += found
    try:
        models = [Model(load_model(path, device)) for path in folders]
    except ModelError as error:
        raise StartupError(f"model cannot be loaded: {error}") from error
    _check_places(models, folders)
    return Registry(models, default)


def _model_folders(folder: Path) -> Iterator[Path]:
    return (config.parent for config in sorted(folder.glob("*/*/config.json")))


def _check_places(models: list[Model], folders: list[Path]) -> None:
    for model, path in zip(models, folders, strict=True):
        if path.parts[-2:] != (model.config.name, model.config.version):
            place = f"{model.config.name}/{model.config.version}/"
            raise StartupError(f"{path}/config.json calls itself {model}, so it belongs into {place}")


def _age(version: str) -> tuple[int, int, str]:
    """Numbers in numeric order, then anything else in alphabetical order."""
    return (0, int(version), "") if version.isdecimal() else (1, 0, version)
