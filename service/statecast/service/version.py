"""A session's version: a step count and a hash chained over every observation."""

import struct
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Version(NamedTuple):
    """Equal versions mean equal histories since the session was opened."""

    step: int
    tag: int

    def __str__(self) -> str:
        return f"step {self.step}, tag {self.tag:016x}"


_new: Callable[[type[Version], tuple[int, int]], Version] = tuple.__new__


def version_of(step: int, tag: int) -> Version:
    """Return `Version(step, tag)`, in a third of the time."""
    return _new(Version, (step, tag))


START = Version(0, 0)
NAN = float("nan")
FEW_VALUES = 64
_pack_value = struct.Struct("<d").pack


def chain_value(version: Version, value: float, time: int | None) -> Version:
    """Return the version after one row of one value, as `chain` does."""
    step, tag = version
    linked = blake2b(tag.to_bytes(8, "little") + _link(value, time), digest_size=8).digest()
    return _new(Version, (step + 1, int.from_bytes(linked, "little")))


def _link(value: float, time: int | None) -> bytes:
    """Return the bytes of a value, with one bit pattern for every NaN, and one for both zeros; and of its time."""
    link = _pack_value(value + 0.0 if value == value else NAN)
    return link if time is None else link + time.to_bytes(8, "little", signed=True)


def chain(version: Version, rows: NDArray[np.float64], times: list[int] | None) -> Version:
    """Return the version after the session has taken `rows`.

    The chain has one link per time step, so it does not depend on how calls split the observations.

    Args:
        version: The session's current version.
        rows: New observations [time, targets and covariates], NaN for missing values.
        times: Each row's time in nanoseconds since the epoch; None if only position counts.
    """
    (after,) = chain_each(version, rows, times, [len(rows)])
    return after


def chain_each(
    version: Version, rows: NDArray[np.float64], times: list[int] | None, counts: Iterable[int]
) -> list[Version]:
    """Return the version after each part of the rows; `counts` are the parts' numbers of rows, in order."""
    links = _links(rows)
    if times is not None:
        links = [link + at.to_bytes(8, "little", signed=True) for link, at in zip(links, times, strict=True)]
    versions, step, tag, at = [], version.step, version.tag.to_bytes(8, "little"), 0
    for count in counts:
        for link in links[at : at + count]:
            tag = blake2b(tag + link, digest_size=8).digest()
        at += count
        versions.append(Version(step + at, int.from_bytes(tag, "little")))
    return versions


def _links(rows: NDArray[np.float64]) -> list[bytes]:
    """Return the bytes of each row, with one bit pattern for every NaN, and one for both zeros."""
    if rows.size <= FEW_VALUES and rows.shape[1] == 1:  # numpy is slow with few numbers
        return [_link(value, None) for value in rows.ravel().tolist()]
    canonical = np.where(np.isnan(rows), NAN, rows + 0.0).astype("<f8", copy=False)
    return [row.tobytes() for row in canonical]
