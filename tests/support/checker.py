"""Check that a run's answers agree on one history of each session, with every acknowledged value in it once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from statecast.service.version import START, Version, chain
from support.hash_model import hashes_along
from support.history import Acked, Call, History, Kind, Refused, Unknown
from support.missing_positions import fill


class Wrong(StrEnum):
    """Kinds of errors; each is an error of the service, except HOLE, which is a gap of the harness."""

    DISAGREE = "two answers disagree about a position"
    LOST = "an acknowledged value is not there"
    DUPLICATE = "a value is there twice"
    LEAK = "a value is there that nobody sent to this session"
    REFUSED = "a refused request was carried out"
    TORN = "a request was carried out in part, or with others in between"
    TAG = "a version's tag is not that of the history up to it"
    HASH = "the state is not that of the history up to it"
    POSITION = "an answer stands where its request does not"
    STALE = "an answer stands before what had been acknowledged when its request began"
    FUTURE = "an answer tells what had not been sent yet"
    ORDER = "a request stands before one that had been acknowledged when it began"
    OPENED = "a session that was there was opened anew"
    GONE = "a session that was gone answered"
    FORECAST = "a forecast is not that of the model after the history up to it"
    HOLE = "no answer tells a position, so the run does not prove anything about it"


@dataclass(frozen=True)
class Finding:
    """A violation found in a run."""

    session: str
    wrong: Wrong
    detail: str

    def __str__(self) -> str:
        return f"{self.session}: {self.wrong}: {self.detail}"


@dataclass
class Verdict:
    """The result of a run."""

    findings: list[Finding] = field(default_factory=list)
    contents: dict[str, list[int]] = field(default_factory=dict)
    """Each session's values by position."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Numbers of calls that were acked, refused and unknown."""


def judge(history: History) -> Verdict:
    """Check every session, and each fork together with its source."""
    verdict = Verdict()
    for session, calls in history.sessions().items():
        verdict.outcomes.update(type(call.outcome).__name__.lower() for call in calls)
        prefix = _prefix(calls, verdict.contents)
        check = _SessionCheck(session, calls, prefix)
        verdict.findings.extend(check.findings())
        verdict.contents[session] = check.content
    return verdict


def _prefix(calls: Sequence[Call], contents: dict[str, list[int]]) -> list[int]:
    """Return the values that a fork took from its source; empty if the session is not a fork."""
    for call in calls:
        if call.kind is Kind.FORK and call.acked and call.acked.version:
            return contents.get(call.source, [])[: call.acked.version.step]
    return []


class _SessionCheck:
    def __init__(self, session: str, calls: Sequence[Call], prefix: Sequence[int]) -> None:
        self._session = session
        self._calls = sorted(calls, key=lambda call: call.started)
        self._prefix = prefix
        self._answers = [
            (call, acked, acked.version) for call in self._calls if (acked := call.acked) and acked.version
        ]
        self.content: list[int] = []

    def findings(self) -> Iterator[Finding]:
        told, found = self._told()
        yield from found
        steps = max((version.step for _, _, version in self._answers), default=0)
        known = {version.step: version.tag for _, _, version in self._answers}
        content = fill(told, steps, known, self._calls)
        if content is None:
            missing = [position for position in range(steps) if position not in told]
            yield self._finding(Wrong.HOLE, f"{len(missing)} of {steps}, the first at {missing[:1]}")
            return
        self.content = content
        yield from self._versions()
        yield from self._values()
        yield from self._times()
        yield from self._lives()

    def _finding(self, wrong: Wrong, detail: str) -> Finding:
        return Finding(self._session, wrong, detail)

    def _told(self) -> tuple[dict[int, int], list[Finding]]:
        """Return the values by position that the answers show, and the disagreements among them."""
        content = dict(enumerate(self._prefix))
        found = []
        for call, acked, version in self._answers:
            last = acked.told.last if acked.told else ()
            for position, value in zip(range(version.step - 1, -1, -1), last, strict=False):
                if content.setdefault(position, value) != value:
                    detail = f"{value} or {content[position]} at {position} ({call})"
                    found.append(self._finding(Wrong.DISAGREE, detail))
                    break
        return content, found

    def _versions(self) -> Iterator[Finding]:
        tags, hashes = tags_along(self.content), hashes_along(self.content)
        for call, acked, version in self._answers:
            if version.tag != tags[version.step]:
                yield self._finding(Wrong.TAG, f"{version} ({call})")
            if acked.told and (acked.told.step, acked.told.hash) != (version.step, hashes[version.step]):
                yield self._finding(Wrong.HASH, f"step {acked.told.step}, version {version} ({call})")

    def _values(self) -> Iterator[Finding]:
        sent = {value: str(call) for call in self._calls for value in call.values}
        sent |= dict.fromkeys(self._prefix, "what was forked")
        self._positions: dict[int, int] = {}
        for position, value in enumerate(self.content):
            if value not in sent:
                yield self._finding(Wrong.LEAK, f"{value} at {position}")
            if (first := self._positions.setdefault(value, position)) != position:
                yield self._finding(Wrong.DUPLICATE, f"{value} at {first} and {position} ({sent.get(value)})")
        for call in self._calls:
            if call.values and (wrong := self._wrong_with(call)):
                yield self._finding(wrong, str(call))

    def _wrong_with(self, call: Call) -> Wrong | None:
        """Return the error in the values of one call, if there is one."""
        present = [self._positions[value] for value in call.values if value in self._positions]
        # Once a session is gone, the outcome of earlier attempts can no longer be known.
        unknown = isinstance(call.outcome, Unknown) or _ends(call)
        if isinstance(call.outcome, Refused) and not unknown:
            return Wrong.REFUSED if present else None
        if not present and unknown:
            return None
        if len(present) < len(call.values):
            return Wrong.TORN if unknown else Wrong.LOST
        if present != list(range(present[0], present[0] + len(present))):
            return Wrong.TORN
        if (acked := call.acked) and acked.version:
            behind = acked.version.step - (present[-1] + 1)
            # A replay gets the current state in answer, which may be further on.
            return Wrong.POSITION if behind < 0 or (behind and not acked.replayed) else None
        return None

    def _times(self) -> Iterator[Finding]:
        """Check that no answer is older than earlier answers, or newer than the requests sent so far."""
        applied = sorted((self._positions[call.values[0]], call) for call in self._applied())
        latest_start, before = 0.0, None
        starts = [0.0] * (len(self.content) + 1)
        for position, call in applied:
            if call.acked and before and call.ended < latest_start:
                yield self._finding(Wrong.ORDER, f"{before} before {call}")
            if call.started > latest_start:
                latest_start, before = call.started, call
            starts[min(position + len(call.values), len(self.content))] = call.started
        newest_start = np.maximum.accumulate(starts)
        by_end = sorted(self._answers, key=lambda answer: answer[0].ended)
        reached, at = 0, 0
        for call, _, version in self._answers:
            while at < len(by_end) and by_end[at][0].ended < call.started:
                reached = max(reached, by_end[at][2].step)
                at += 1
            if version.step < reached:
                yield self._finding(Wrong.STALE, f"{version}, although {reached} had been told ({call})")
            if newest_start[version.step] > call.ended:
                yield self._finding(Wrong.FUTURE, f"{version} ({call})")

    def _applied(self) -> Iterator[Call]:
        return (call for call in self._calls if call.values and call.values[0] in self._positions)

    def _lives(self) -> Iterator[Finding]:
        """Check that a session begins once and ends once."""
        for call, acked, version in self._answers:
            begins = 0 if call.kind is Kind.FORK else len(call.values)
            if acked.opened and (version.step != begins or self._prefix):
                yield self._finding(Wrong.OPENED, f"at {version} ({call})")
        if sum(acked.opened for _, acked, _ in self._answers) > 1:
            yield self._finding(Wrong.OPENED, "more than once")
        gone = min((call.ended for call in self._calls if _ends(call)), default=float("inf"))
        for call, _, version in self._answers:
            if call.started > gone:
                yield self._finding(Wrong.GONE, f"at {version} ({call})")


def _ends(call: Call) -> bool:
    """Return whether the session is known to be gone after this call."""
    if isinstance(call.outcome, Refused):
        return call.outcome.code == "NOT_FOUND"
    return call.kind is Kind.CLOSE and isinstance(call.outcome, Acked)


def tags_along(values: Sequence[float]) -> list[int]:
    """Return the version tags before the first value and after each value."""
    versions = [START]
    for value in values:
        versions.append(chain(versions[-1], np.array([[value]], np.float64), None))
    return [Version(*version).tag for version in versions]
