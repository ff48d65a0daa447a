"""A session in memory: everything that decides its requests, without a tensor."""

import math
from dataclasses import dataclass, replace

from statecast.model import UTC, Frequency, Zone
from statecast.service.engine.clock import Clock
from statecast.service.models.registry import Model
from statecast.service.store.record import REMEMBERED_VERSIONS, Entry, SessionHead, Snapshot, checksum_of
from statecast.service.version import START, Version


@dataclass(slots=True, kw_only=True)
class Standing(SessionHead):
    """A session's head with its model and time zone; `last_time` lies on the grid of `clock`.

    `own_frequency` is the time between two steps that it was opened with; None if its model has one, or if only
    position counts.
    """

    model: Model
    zone: Zone = UTC
    own_frequency: Frequency | None = None

    @property
    def frequency(self) -> Frequency | None:
        """The time between two steps; None if only position counts."""
        return self.own_frequency or self.model.frequency

    @property
    def clock(self) -> Clock | None:
        """The session's time grid; None if only position counts."""
        frequency = self.frequency
        return Clock(frequency, self.zone) if frequency else None

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

    @property
    def step_ns(self) -> int | None:
        """Nanoseconds from each step to the next; 0 if only position counts, None if the steps differ in length."""
        clock = self.clock
        if clock is None:
            return 0
        return clock.frequency.step_ns if clock.grid_zone == UTC else None

    @property
    def max_ahead_ns(self) -> float:
        """How far ahead of the server's clock observations may be dated, in nanoseconds."""
        clock = self.clock
        if clock is None or self.max_ahead_ms == 0:
            return math.inf
        return 1e6 * (clock.usual_max_ahead_ms if self.max_ahead_ms is None else self.max_ahead_ms)

    def after(self, entry: Entry) -> "Standing":
        """Return the standing after `entry`."""
        later = self.copy()
        later.take(entry)
        return later

    def to_its_end(self, ttl_ms: int) -> "Standing":
        """Return the standing of the session once it has ended, which it outlives by `ttl_ms`."""
        return replace(self.copy(), ttl_ms=ttl_ms, ended=True)

    def snapshot(self, state: bytes) -> Snapshot:
        """Return the session's snapshot, given its packed state."""
        model = self.model
        return Snapshot(
            self.version, self.last_time, self.ttl_ms, self.recent, self.lineage, self.categories, self.max_ahead_ms,
            self.ended, self.binding, self.upgrades, model=model.config.name, model_version=model.config.version,
            model_digest=model.digest_bytes, width=model.width, state=state, time_zone=self.zone.name,
            is_on_wall_clock=self.is_on_wall_clock, frequency=self.own_frequency.alias if self.own_frequency else "",
        )  # fmt: skip

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


@dataclass(frozen=True, slots=True)
class Seed:
    """A copy of a session: its standing and its packed state."""

    standing: Standing
    state: bytes


class Session:
    """A session in memory, as Redis has it. Its state is in row `row` of its model's pool.

    Attributes:
        key: Key of the session.
        standing: Its standing, which moves on once Redis has confirmed a commit.
        stamp: The newest stamp of its record.
        steps_since_snapshot: Number of steps after the record's snapshot.
        row: Row of its state; -1 until it has one.
        replayed: Number of steps that were replayed when it was read from Redis; 0 once it has a new snapshot.
        key_checksum: With which the checksum of each entry begins.
        step_ns, max_ahead_ns, horizon: Those of the standing and its model, which never change.
        takes_one: True if a time step of its model is one number, whatever it is.
        epoch: The registry's when the session was last found to be on the right model.
    """

    __slots__ = (
        "epoch", "horizon", "key", "key_checksum", "max_ahead_ns", "replayed", "row", "stamp", "standing", "step_ns",
        "steps_since_snapshot", "takes_one",
    )  # fmt: skip

    def __init__(self, key: str, standing: Standing, stamp: bytes, steps_since_snapshot: int) -> None:
        self.key, self.standing, self.stamp = key, standing, stamp
        self.steps_since_snapshot = steps_since_snapshot
        self.row, self.replayed = -1, 0
        self.epoch: object = None
        self.key_checksum, model = checksum_of(key), standing.model
        self.step_ns, self.max_ahead_ns, self.horizon = standing.step_ns, standing.max_ahead_ns, model.config.horizon
        self.takes_one = model.takes_plain_steps and model.width == 1
