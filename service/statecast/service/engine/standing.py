"""A session's standing: everything that decides its requests, without a tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from statecast.model import UTC, Zone
from statecast.service.engine.clock import Clock
from statecast.service.models.registry import Model
from statecast.service.store.record import REMEMBERED_REQUESTS, REMEMBERED_VERSIONS, Entry, RequestMark
from statecast.service.version import START, Version


@dataclass(slots=True)
class Standing:
    """A session's model, version, categories, remembered requests (`recent`) and last versions (`lineage`).

    `last_time` is the time of its last step on the grid of `clock`; `max_ahead_ms` is None for the default, 0 for no
    limit.
    """

    model: Model
    version: Version
    last_time: int | None
    ttl_ms: int
    recent: tuple[RequestMark, ...] = ()
    lineage: tuple[Version, ...] = ()
    categories: Mapping[str, str] = field(default_factory=dict)
    zone: Zone = UTC
    max_ahead_ms: int | None = None

    @property
    def clock(self) -> Clock | None:
        """The session's time grid; None if only position counts."""
        return Clock(self.model.frequency, self.zone) if self.model.frequency else None

    @property
    def is_on_wall_clock(self) -> bool:
        """True if `last_time` is wall-clock time in a zone other than UTC."""
        clock = self.clock
        return clock is not None and clock.grid_zone != UTC

    @property
    def last_instant(self) -> int | None:
        """Instant of the last step; None if only position counts, or there is none yet."""
        clock = self.clock
        return None if clock is None or self.last_time is None else clock.instant(self.last_time)

    def after(self, entry: Entry) -> "Standing":
        """Return the standing after `entry`."""
        lineage = (*self.lineage, entry.version)[-REMEMBERED_VERSIONS:]
        recent = _remember(self.recent, entry.mark)
        return Standing(
            self.model, entry.version, entry.last_time, self.ttl_ms, recent, lineage, self.categories, self.zone,
            self.max_ahead_ms,
        )  # fmt: skip

    def forked(self, mark: RequestMark | None, ttl_ms: int | None) -> "Standing":
        """Return the standing of a copy of the session, which remembers the request that made it."""
        return replace(self, ttl_ms=ttl_ms or self.ttl_ms, recent=_remember(self.recent, mark))

    def has_lost(self, seen: Version) -> bool:
        """Return True if a session once at `seen` cannot have reached this version by observations alone.

        With a full lineage, any version older than all of it is accepted.
        """
        if seen in (START, self.version) or seen in self.lineage:
            return False
        return len(self.lineage) < REMEMBERED_VERSIONS or seen.step >= self.lineage[0].step

    def remembers_since(self, seen: Version) -> bool:
        """Return True if the session remembers the id of every request since `seen`."""
        return len(self.lineage) < REMEMBERED_VERSIONS or seen.step >= self.lineage[0].step


def _remember(recent: tuple[RequestMark, ...], mark: RequestMark | None) -> tuple[RequestMark, ...]:
    return (*recent, mark)[-REMEMBERED_REQUESTS:] if mark else recent


@dataclass(frozen=True, slots=True)
class Seed:
    """A copy of a session: its standing and its packed state."""

    standing: Standing
    state: bytes
