"""Names of the tensors of inference requests: the server's own, and those that its operator gives them for a model."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statecast.service.errors import StartupError

INPUTS = VALUES, COVARIATES, FUTURE_COVARIATES, START_TIME = "values", "covariates", "future_covariates", "start_time"
OUTPUTS = FORECAST, QUANTILE_LEVELS, STEP = "forecast", "quantile_levels", "step"
TENSORS = (*INPUTS, *OUTPUTS)


class TensorNames:
    """The names of tensors by model: each has its own name, and may have another."""

    def __init__(self, path: Path | None = None) -> None:
        """Read a TOML file with a table for each model: other names, and the tensors that they mean.

        Raises:
            StartupError: if it cannot be used.
        """
        self._tensors = {} if path is None else _read(path)
        self._shown = {model: {each: name for name, each in names.items()} for model, names in self._tensors.items()}

    def shown(self, model: str, tensor: str) -> str:
        """Return the name by which callers of the model know a tensor."""
        return self._shown.get(model, {}).get(tensor, tensor)

    def find(self, model: str, name: str) -> str | None:
        """Return the tensor of that name, its own or the other one; None if there is none."""
        found = self._tensors.get(model, {}).get(name)
        return found or (name if name in TENSORS else None)


def _read(path: Path) -> Mapping[str, Mapping[str, str]]:
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"tensor-names {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StartupError(f"tensor-names {path} is not TOML: {error}") from error
    for model, names in tables.items():
        _check(names, f"tensor-names {path}: [{model}]")
    return tables


def _check(names: Any, where: str) -> None:
    if not isinstance(names, dict):
        raise StartupError(f"{where} is not a table named after a model, such as [base]")
    for name, tensor in names.items():
        if tensor not in TENSORS:
            raise StartupError(f"{where} {name} = {tensor!r} is not a tensor; the tensors are {', '.join(TENSORS)}")
        if not name or (name in TENSORS and name != tensor):
            raise StartupError(f"{where} {name!r} must not be the name of {tensor}; choose one that no tensor has")
    twice = [tensor for tensor in TENSORS if list(names.values()).count(tensor) > 1]
    if twice:
        raise StartupError(f"{where} gives {twice[0]} several names; keep one of them")
