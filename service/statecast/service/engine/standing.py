"""Where a session stands: all that decides about a request without touching a tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from statecast.service.registry import Model
from statecast.service.store.record import REMEMBERED_REQUESTS, REMEMBERED_VERSIONS, Entry, RequestMark
from statecast.service.version import START, Version


@dataclass(slots=True)
class Standing:
    """A session's model, version, categories, the requests that it remembers and the last versions that it stood at."""

    model: Model
    version: Version
    last_time: int | None
    ttl_ms: int
    recent: tuple[RequestMark, ...] = ()
    lineage: tuple[Version, ...] = ()
    categories: Mapping[str, str] = field(default_factory=dict)

    def after(self, entry: Entry) -> "Standing":
        """Where the session stands once it has taken `entry`."""
        lineage = (*self.lineage, entry.version)[-REMEMBERED_VERSIONS:]
        recent = _remember(self.recent, entry.mark)
        return Standing(self.model, entry.version, entry.last_time, self.ttl_ms, recent, lineage, self.categories)

    def forked(self, mark: RequestMark | None, ttl_ms: int | None) -> "Standing":
        """Where a copy of the session stands, which remembers the request that made it."""
        return replace(self, ttl_ms=ttl_ms or self.ttl_ms, recent=_remember(self.recent, mark))

    def has_lost(self, seen: Version) -> bool:
        """Whether a session that once stood at `seen` cannot have come here by observations alone.

        A version older than all that are remembered is believed, once there are such.
        """
        if seen in (START, self.version) or seen in self.lineage:
            return False
        return len(self.lineage) < REMEMBERED_VERSIONS or seen.step >= self.lineage[0].step

    def remembers_since(self, seen: Version) -> bool:
        """Whether the id of every request since `seen` is remembered."""
        return len(self.lineage) < REMEMBERED_VERSIONS or seen.step >= self.lineage[0].step


def _remember(recent: tuple[RequestMark, ...], mark: RequestMark | None) -> tuple[RequestMark, ...]:
    return (*recent, mark)[-REMEMBERED_REQUESTS:] if mark else recent


@dataclass(frozen=True, slots=True)
class Seed:
    """A copy of a session: where it stands, and its packed state."""

    standing: Standing
    state: bytes
