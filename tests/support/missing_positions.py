"""Values at positions that no forecast shows, found from receipts and version tags."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from statecast.service.version import Version, chain
from support.history import Call

DEEPEST = 4
"""Most requests of unknown place that may follow each other."""


def fill(told: Mapping[int, int], steps: int, tags: Mapping[int, int], calls: Sequence[Call]) -> list[int] | None:
    """Return all values up to `steps`, or None if some cannot be known.

    Args:
        told: Values by position that forecasts show.
        steps: Number of values.
        tags: Known version tags by step.
        calls: All calls to the session.
    """
    content = dict(told)
    for call in calls:
        if call.values and (acked := call.acked) and acked.version and not acked.replayed:
            start = acked.version.step - len(call.values)
            for position, value in enumerate(call.values, start):
                content.setdefault(position, value)
    loose = None
    version = Version(0, 0)
    result: list[int] = []
    while len(result) < steps:
        if len(result) in content:
            result.append(content[len(result)])
            version = _after(version, result[-1:])
            continue
        if loose is None:
            loose = _loose(content, calls)
        found = next(_paths(version, _Known(content, steps, tags), loose), None)
        if found is None:
            return None
        result += found
        version = _after(version, found)
    return result


class _Known:
    """The known values and tags of a session, from which the unknown ones follow."""

    def __init__(self, content: Mapping[int, int], steps: int, tags: Mapping[int, int]) -> None:
        self._content, self._steps, self._tags = content, steps, tags

    def leaves_room(self, step: int, values: Sequence[int]) -> bool:
        """Return whether `values` may come after `step`."""
        free = all(self._content.get(at, value) == value for at, value in enumerate(values, step))
        return free and step + len(values) <= self._steps

    def follow(self, version: Version) -> tuple[list[int], Version]:
        """Return the values after `version` up to the next known tag or the next hole, and the version there."""
        values = []
        while version.step not in self._tags and version.step in self._content:
            values.append(self._content[version.step])
            version = _after(version, values[-1:])
        return values, version

    def proves(self, version: Version) -> bool | None:
        """Return whether a session at this version has the known tag; None if no tag is known there."""
        tag = self._tags.get(version.step)
        return None if tag is None else tag == version.tag


def _loose(content: Mapping[int, int], calls: Sequence[Call]) -> list[tuple[int, ...]]:
    """Return the values of the calls whose position is unknown."""
    placed = set(content.values())
    return [call.values for call in calls if call.values and not placed.issuperset(call.values)]


def _paths(
    version: Version, known: _Known, loose: Sequence[tuple[int, ...]], deep: int = DEEPEST
) -> Iterator[list[int]]:
    """Yield sequences of values that lead from `version` to a step whose known tag matches."""
    if not deep:
        return
    for values in loose:
        if not known.leaves_room(version.step, values):
            continue
        ahead, after = known.follow(_after(version, values))
        proof = known.proves(after)
        if proof:
            yield [*values, *ahead]
        elif proof is None:
            others = [each for each in loose if each is not values]
            for more in _paths(after, known, others, deep - 1):
                yield [*values, *ahead, *more]


def _after(version: Version, values: Sequence[int]) -> Version:
    return chain(version, np.array(values, np.float64).reshape(-1, 1), None)
