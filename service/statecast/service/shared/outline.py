"""Outlines: what must be known of a model to read its sessions' records once the model is gone."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from statecast.model import Frequency, RawRows, raw_rows_of
from statecast.service.models.registry import Model


@dataclass(frozen=True)
class Outline:
    """A model's inputs, and where the states of its sessions keep raw values.

    Attributes:
        name: Name of the model.
        version: Its version.
        targets: Names of its targets.
        covariates: Names of its covariates.
        classes: Symbols that a value can be; empty for quantities.
        frequency: Time between two steps, as a pandas alias; empty if only position counts.
        state_bytes: Size of a session's packed state.
        raw: Where that keeps recent values; None if it keeps none.
        keeps_missing: True if missing values are missing there, too.
    """

    name: str
    version: str
    targets: tuple[str, ...]
    covariates: tuple[str, ...]
    classes: tuple[str, ...]
    frequency: str
    state_bytes: int
    raw: RawRows | None
    keeps_missing: bool

    @staticmethod
    def of(model: Model) -> "Outline":
        """Return a model's outline."""
        config, layout = model.config, model.forecaster.layout
        return Outline(
            config.name, config.version, config.targets, config.covariates, config.classes, config.frequency,
            layout.nbytes, raw_rows_of(model.forecaster), keeps_missing=getattr(config, "missing", "") != "carry",
        )  # fmt: skip

    @cached_property
    def width(self) -> int:
        """Numbers per time step."""
        return len(self.targets) + len(self.covariates)

    @cached_property
    def step(self) -> Frequency | None:
        """The time between two steps; None if only position counts."""
        return Frequency.parse(self.frequency) if self.frequency else None

    def to_json(self) -> bytes:
        """Encode the outline."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_json(data: bytes) -> "Outline":
        """Decode what `to_json` has encoded; fields that a newer server has added are left out.

        Raises:
            ValueError: if it is something else.
        """
        try:
            fields: Mapping[str, Any] = json.loads(data)
            known = {name: fields[name] for name in Outline.__dataclass_fields__}
            for name in ("targets", "covariates", "classes"):
                known[name] = tuple(map(str, known[name]))
            known["raw"] = RawRows(**known["raw"]) if known["raw"] else None
            return Outline(**known)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an outline: {error!r}") from error
