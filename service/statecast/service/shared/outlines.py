"""Finds the outline of the model that has written a record, whether or not the model is still here."""

import json
import time
from contextlib import suppress
from functools import lru_cache
from importlib import resources

from statecast.service.errors import ServiceError
from statecast.service.models.registry import Registry
from statecast.service.shared.documents import Documents
from statecast.service.shared.outline import Outline

AGAIN_SECONDS = 5.0
"""Time for which an outline that Redis does not have is not looked for again."""


@lru_cache
def _earlier_models() -> dict[bytes, Outline]:
    """Return the outlines of models that earlier releases came with, by digest."""
    text = resources.files(__package__).joinpath("earlier_models.json").read_text()
    return {
        bytes.fromhex(digest): Outline.from_json(json.dumps(fields).encode())
        for digest, fields in json.loads(text).items()
    }


class Outlines:
    """Remembers outlines. Not thread-safe."""

    def __init__(self, registry: Registry, documents: Documents) -> None:
        self._registry, self._documents = registry, documents
        self._known: dict[bytes, Outline] = {}
        self._absent: dict[bytes, float] = {}

    def find(self, name: str, version: str, digest: bytes) -> Outline | None:
        """Return the outline of a model; None if nobody knows it, or Redis does not answer now."""
        outline = self._known.get(digest)
        if outline is not None:
            return outline
        model = self._registry.find(name, version)
        if model is not None and model.digest_bytes == digest:
            outline = Outline.of(model)
        elif digest in (earlier := _earlier_models()):
            outline = earlier[digest]
        elif self._absent.get(digest, 0.0) < time.monotonic():
            with suppress(ServiceError):  # Redis does not answer now
                outline = self._documents.outline(digest)
            self._absent[digest] = time.monotonic() + AGAIN_SECONDS
        if outline is not None:
            self._known[digest] = outline
        return outline
