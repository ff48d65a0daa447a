"""Policies: which version of a model its sessions stand on. All servers that share a Redis share them."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

PIN, FOLLOW = "pin", "follow"
ALIAS = re.compile(r"[A-Za-z0-9._+-]{1,64}")
AT = "@"

Aliases: TypeAlias = Mapping[str, Mapping[str, str]]


def split_alias(name: str) -> tuple[str, str]:
    """Return the model and the alias of NAME@ALIAS; no alias for a plain name."""
    model, _, alias = name.partition(AT)
    return model, alias


@dataclass(frozen=True)
class Policies:
    """Aliases, policies and retired versions at one revision.

    Attributes:
        revision: Time of the last change, in milliseconds since 1970, or one more than before; 0 without any.
        aliases: Version by alias, for each model.
        chosen: Policy of each model that does not just pin: FOLLOW, or AT and an alias.
        retired: Versions of each model on which no session begins.
    """

    revision: int = 0
    aliases: Aliases = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    retired: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def policy(self, name: str) -> str:
        """Return the policy of a model."""
        return self.chosen.get(name, PIN)

    def target(self, name: str, alias: str) -> str | None:
        """Return the version that an alias points to; None if there is no such alias."""
        return self.aliases.get(name, {}).get(alias)

    def aliases_of(self, name: str, version: str) -> list[str]:
        """Return the aliases that point to a version, in order."""
        return sorted(alias for alias, target in self.aliases.get(name, {}).items() if target == version)

    def is_retired(self, name: str, version: str) -> bool:
        """Return True if no session begins on that version."""
        return version in self.retired.get(name, ())

    def with_alias(self, name: str, alias: str, version: str) -> "Policies":
        """Return the policies with an alias that points to a version; without it if the version is empty."""
        own = {**self.aliases.get(name, {}), alias: version}
        return self._changed(aliases={**self.aliases, name: {each: target for each, target in own.items() if target}})

    def with_policy(self, name: str, policy: str) -> "Policies":
        """Return the policies with that of a model."""
        return self._changed(
            chosen={each: chosen for each, chosen in {**self.chosen, name: policy}.items() if chosen != PIN}
        )

    def with_retired(self, name: str, version: str, *, is_retired: bool) -> "Policies":
        """Return the policies with a version that is retired, or is not."""
        others = [each for each in self.retired.get(name, ()) if each != version]
        return self._changed(retired={**self.retired, name: (*others, *([version] if is_retired else []))})

    def to_json(self) -> bytes:
        """Encode the policies."""
        content = {
            "revision": self.revision, "aliases": self.aliases, "policies": self.chosen, "retired": self.retired
        }  # fmt: skip
        return json.dumps(content, sort_keys=True).encode()

    @staticmethod
    def from_json(data: bytes) -> "Policies":
        """Decode what `to_json` has encoded; fields that a newer server has added are left out.

        Raises:
            ValueError: if it is something else.
        """
        try:
            content = json.loads(data)
            retired = {str(name): tuple(map(str, versions)) for name, versions in content["retired"].items()}
            return Policies(int(content["revision"]), content["aliases"], content["policies"], retired)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not policies: {error!r}") from error

    def _changed(self, **changes: object) -> "Policies":
        revision = max(self.revision + 1, time.time_ns() // 1_000_000)  # also newer than what a lost copy had
        return replace(self, revision=revision, **changes)  # type: ignore[arg-type]
