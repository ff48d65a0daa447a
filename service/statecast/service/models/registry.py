"""The models that the server runs: the bundled one, and those in the models folder."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from statecast.model import (
    ConfigError,
    Description,
    Frequency,
    ModelError,
    StreamingModel,
    bundled_models,
    load_model,
    usual_horizon,
    version_order,
)
from statecast.service.binding import Binding
from statecast.service.errors import NotFound, StartupError, Unavailable, quoted
from statecast.service.models.policies import AT, FOLLOW, PIN, Policies, split_alias
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

BUNDLED = "base"
POLICIES_SECONDS = 0.1
"""Retry delay while newer policies are read."""

IsComing = Callable[[str, str], bool]
"""Returns True if a model of that name and version is not loaded, but probably will be soon."""


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model."""

    forecaster: StreamingModel

    @cached_property
    def config(self) -> Description:
        """The model's inputs, outputs and size."""
        return self.forecaster.config

    @cached_property
    def digest(self) -> str:
        """The digest of configuration, state layout and weights, in hexadecimal."""
        return self.forecaster.digest

    @cached_property
    def digest_bytes(self) -> bytes:
        """The digest as 32 bytes."""
        return bytes.fromhex(self.digest)

    @cached_property
    def labels(self) -> tuple[str, str]:
        """The labels `model` and `model_version` of metrics."""
        return self.config.name, self.config.version

    @cached_property
    def frequency(self) -> Frequency | None:
        """The time between two steps; None if only position counts."""
        return Frequency.parse(self.config.frequency) if self.config.frequency else None

    @cached_property
    def usual_horizon(self) -> int:
        """Number of steps to forecast unless the caller says another."""
        return usual_horizon(self.config)

    @cached_property
    def targets(self) -> int:
        """Number of targets per time step."""
        return len(self.config.targets)

    @cached_property
    def width(self) -> int:
        """Numbers per time step: the targets, then the covariates."""
        return self.targets + len(self.config.covariates)

    @cached_property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.forecaster.device

    def tensor(self, values: ArrayLike) -> torch.Tensor:
        """Return values on the device; numbers of a list become int64 or float64."""
        tensor = torch.from_numpy(np.asarray(values))  # five times as fast as torch.tensor
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    @cached_property
    def takes_plain_steps(self) -> bool:
        """True if a time step is its targets, any numbers, and nothing else."""
        config = self.config
        takes_any = config.takes_missing and config.lower_bound == -inf and not config.classes
        return takes_any and self.width == self.targets

    @property
    def is_adaptive(self) -> bool:
        """True if the intervals adapt per session."""
        return getattr(self.config, "adaptation_rate", 0.0) > 0

    def category_indices(self, categories: Mapping[str, str]) -> list[int]:
        """Return the position of the session's value for each of the model's categories, from 1; 0 if unknown."""
        return [known.get(categories[name], 0) if name in categories else 0 for name, known in self._known_values]

    @cached_property
    def _known_values(self) -> list[tuple[str, dict[str, int]]]:
        # A category may have 100,000 values, and every batch looks them up.
        return [
            (each.name, {value: position for position, value in enumerate(each.values, 1)})
            for each in self.config.categories
        ]

    def __str__(self) -> str:
        return f"{self.config.name} version {self.config.version}"


class Registry:
    """All models by name and version. Any thread may read it; one thread at a time may add to it."""

    def __init__(self, models: list[Model], default: str) -> None:
        # Never changed, only replaced, so that readers need no lock; each name's newest version comes first.
        self._models: dict[str, dict[str, Model]] = {}
        self._broken: dict[tuple[str, str], str] = {}
        self._is_coming: IsComing = lambda name, version: False
        self._prepare: Callable[[Model], None] | None = None
        self._policies = Policies()
        self._wants_policies: Callable[[], None] = lambda: None
        self.asked_revision = self._confirmed_revision = 0  # newest that sessions show; that of them which was read
        self.epoch = object()
        """Another object after each change that may move sessions."""
        for model in models:
            self.add(model)
        if default not in self._models:
            raise StartupError(f"default-model {default!r} does not exist; choose one of: {', '.join(self._models)}")
        self.default = default

    def add(self, model: Model) -> None:
        """Add a model; requests find it from now on."""
        if self._prepare is not None:
            self._prepare(model)
        name = model.config.name
        versions = {**self._models.get(name, {}), model.config.version: model}
        newest_first = {version: versions[version] for version in sorted(versions, key=version_order, reverse=True)}
        self._models = {**self._models, name: newest_first}
        self.epoch = object()
        self.set_broken({place: why for place, why in self._broken.items() if place != model.labels})

    def prepare_with(self, prepare: Callable[[Model], None]) -> None:
        """Call `prepare` for each model, and from now on for those that are added."""
        self._prepare = prepare  # first: a model that is added meanwhile may be prepared twice, but never not at all
        for model in self:
            prepare(model)

    @property
    def is_prepared(self) -> bool:
        """True if models are prepared."""
        return self._prepare is not None

    @property
    def broken(self) -> Mapping[tuple[str, str], str]:
        """Names and versions in the models folder that cannot be loaded, with the reason."""
        return self._broken

    def set_broken(self, broken: Mapping[tuple[str, str], str]) -> None:
        """Set the models that cannot be loaded; their sessions are unavailable until they can."""
        self._broken = dict(broken)

    def expect(self, is_coming: IsComing) -> None:
        """Call `is_coming`, from any thread, when a request needs a version that is not loaded."""
        self._is_coming = is_coming

    @property
    def policies(self) -> Policies:
        """Aliases, policies and retired versions, as far as this server knows."""
        return self._policies

    def adopt(self, policies: Policies) -> None:
        """Go by these policies from now on."""
        self._policies = policies
        self.epoch = object()

    def confirm(self, revision: int) -> None:
        """Declare that the policies are no older than this revision, which a session shows."""
        self._confirmed_revision = max(self._confirmed_revision, revision)

    def ask_for_policies(self, wants_policies: Callable[[], None]) -> None:
        """Call `wants_policies`, from any thread, when a session shows that there are newer policies."""
        self._wants_policies = wants_policies

    def get(self, name: str, version: str = "") -> Model:
        """Return a model on which a session may begin.

        Args:
            name: Its name, or NAME@ALIAS; empty for the default model.
            version: Its version; empty for that of the alias or the model's policy, or else the newest.

        Raises:
            NotFound: if it does not exist.
            Unavailable: if it is not loaded yet.
        """
        name, alias = split_alias(name)
        name = name or self.default
        if not version:
            policy = self._policies.policy(name)
            alias = alias or (policy.removeprefix(AT) if policy.startswith(AT) else "")
        if alias:
            return self.at_alias(name, alias)
        model = self.find(name, version) if version else self.newest(name)
        if model is None:
            self.check_coming(name, version)
            raise self._missing(name, version)
        if self._policies.is_retired(*model.labels):
            raise NotFound(
                f"version {quoted(model.config.version)} of model {quoted(name)} is retired: no session begins on it; "
                f"name another version, or none for the newest",
                Reason.MODEL_NOT_FOUND,
            )
        return model

    def newest(self, name: str) -> Model | None:
        """Return the newest version of a model that is not retired; None if there is none."""
        return next(
            (each for each in self.versions(name).values() if not self._policies.is_retired(*each.labels)), None
        )

    def at_alias(self, name: str, alias: str) -> Model:
        """Return the version that an alias points to.

        Raises:
            NotFound: if there is no such alias.
            Unavailable: if that version is not loaded yet.
        """
        version = self._policies.target(name, alias)
        if version is None:
            there = ", ".join(sorted(self._policies.aliases.get(name, {})))
            raise NotFound(
                f"model {quoted(name)} has no alias {quoted(alias)}; "
                + (f"it has: {there}" if there else "an operator sets one: statecast models alias"),
                Reason.MODEL_NOT_FOUND,
            )
        model = self.find(name, version)
        if model is None:
            self.check_coming(name, version)
            raise self._lacks(name, version, f"to which alias {quoted(alias)} points")
        return model

    def binding(self, name: str, version: str = "", alias: str = "") -> Binding | None:
        """Return the binding of a session that comes to a model by these names; None to go by the model's policy."""
        policy = self._policies.policy(name)
        if not version and not alias and policy.startswith(AT):
            alias = policy.removeprefix(AT)
        if alias:
            return Binding(alias, self._policies.revision)
        return Binding() if version and policy != PIN else None

    def destination(self, model: Model | None, name: str, version: str, binding: Binding | None) -> Model | None:
        """Return the model to which a session must move by its alias or the policy; None to stay.

        Args:
            model: The session's model; None if it is not loaded.
            name: Name of that model.
            version: Its version.
            binding: The session's own binding.

        Raises:
            Unavailable: if that version is not loaded yet, or this server does not know the newest policies.
        """
        policy = self._policies.policy(name)
        alias = binding.alias if binding else policy.removeprefix(AT) if policy.startswith(AT) else ""
        if alias:
            if binding and binding.revision > max(self._policies.revision, self._confirmed_revision):
                self.asked_revision = max(self.asked_revision, binding.revision)
                self._wants_policies()
                raise Unavailable(
                    f"this server has not read yet where alias {quoted(alias)} of model {quoted(name)} points; send "
                    "the same request again",
                    Reason.MODEL_LOADING,
                    POLICIES_SECONDS,
                )
            target = self._policies.target(name, alias)
            is_there = target is None or (target == version and model is not None)
            return None if is_there else self.at_alias(name, alias)
        if binding or policy != FOLLOW:
            return None
        newest = self.newest(name)
        is_newer = newest is not None and version_order(newest.config.version) > version_order(version)
        return newest if is_newer and newest is not model else None

    def versions(self, name: str) -> Mapping[str, Model]:
        """Return the loaded versions of a model, the newest first."""
        return self._models.get(name, {})

    def find(self, name: str, version: str) -> Model | None:
        """Return exactly that model, if it is loaded."""
        return self._models.get(name, {}).get(version)

    def check_coming(self, name: str, version: str) -> None:
        """Check if a model that is not loaded is worth waiting for.

        Raises:
            Unavailable: if it is in the models folder, but still loading or broken.
        """
        broken = [place for place in self._broken if place[0] == name and version in ("", place[1])]
        if broken:
            which = f"version {quoted(broken[0][1])} of model {quoted(name)}"
            message = f"{which} cannot be loaded; see the server's log for why, then send the same request again"
            raise Unavailable(message, Reason.MODEL_UNAVAILABLE)
        if version and self._is_coming(name, version):
            message = f"version {quoted(version)} of model {quoted(name)} is being loaded; send the same request again"
            raise Unavailable(message, Reason.MODEL_LOADING)

    def check_newer(self, name: str, version: str) -> None:
        """Check if a session stands on a version that other servers must have got before this one.

        Raises:
            Unavailable: if it is newer than all that this server has, and so will probably come.
        """
        versions = self.versions(name)
        if versions and version_order(version) > version_order(next(iter(versions))):
            raise self._lacks(name, version, "on which the session stands")

    def __iter__(self) -> Iterator[Model]:
        """Iterate over the models by name, each one's newest version first."""
        models = self._models
        for name in sorted(models):
            yield from models[name].values()

    def _lacks(self, name: str, version: str, why: str) -> Unavailable:
        return Unavailable(
            f"this server does not have version {quoted(version)} of model {quoted(name)} yet, {why}; send the same "
            "request again. If this lasts, copy the model's folder to every server",
            Reason.MODEL_LOADING,
        )

    def _missing(self, name: str, version: str) -> NotFound:
        models = self._models
        if name not in models:
            message = f"there is no model {quoted(name)}; there are: {', '.join(sorted(models))}"
        else:
            there = ", ".join(reversed(models[name]))
            message = f"model {quoted(name)} has no version {quoted(version)}; it has: {there}"
        return NotFound(message, Reason.MODEL_NOT_FOUND)


def load_registry(folder: Path | None, default: str, device: torch.device, *, require_all: bool = False) -> Registry:
    """Load the bundled model and those in `folder`, one in each <name>/<version>/, without those that cannot be loaded.

    Raises:
        StartupError: if the folder is missing, or a model that is required cannot be loaded.
    """
    folders = _model_folders(bundled_models())
    if folder is not None:
        if not folder.is_dir():
            raise StartupError(f"models folder {folder} does not exist; create it, or name another with --models")
        found = _model_folders(folder)
        if not found:
            log.warning(
                "models folder %s holds no <name>/<version>/config.json; only %r is served",
                folder,
                BUNDLED,
            )
        folders += found
    models, broken = [], {}
    for path in folders:
        try:
            models.append(load_folder(path, device))
        except ModelError as error:
            name, version = path.parts[-2:]
            broken[name, version] = f"model in {path} cannot be loaded: {error}"
            if require_all:
                raise StartupError(f"{broken[name, version]} (--require-all-models requires all)") from error
            log.error("%s; the server runs without it, and tries again if its files change", broken[name, version])
    if default not in {model.config.name for model in models}:
        for (name, _), problem in broken.items():
            if name == default:
                raise StartupError(f"default-model {default!r}: {problem}")
    registry = Registry(models, default)
    registry.set_broken(broken)
    return registry


def load_folder(folder: Path, device: torch.device) -> Model:
    """Load the model in a folder <name>/<version>/.

    Raises:
        ModelError: if it cannot be loaded, or its config.json names another model.
    """
    model = Model(load_model(folder, device))
    if folder.parts[-2:] != model.labels:
        place = "/".join(model.labels)
        raise ConfigError(f"{folder}/config.json describes {model}; move the folder to {place}/")
    return model


def version_folders(folder: Path) -> Iterator[Path]:
    """Yield every <name>/<version>/ in order, but not hidden ones, which may be half-written or a volume's own.

    Raises:
        OSError: if the folder cannot be read.
    """
    for name in _folders(folder):
        try:
            yield from _folders(name)
        except OSError as error:  # removed just now, or not readable; the others still count
            log.debug("%s cannot be read: %s", name, error)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and os.path.isdir(path))


def _model_folders(folder: Path) -> list[Path]:
    try:
        return [path for path in version_folders(folder) if (path / "config.json").exists()]
    except OSError as error:
        raise StartupError(f"models folder {folder} cannot be read: {error.strerror}") from error
