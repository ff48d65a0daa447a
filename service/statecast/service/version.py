"""A session's version: a step count and a hash chained over every observation."""

import struct
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


START = Version(0, 0)
NAN = float("nan")
_VALUE = struct.Struct("<d")


def chain(version: Version, rows: NDArray[np.float64], times: list[int] | None) -> Version:
    """Return the version after the session has taken `rows`.

    The chain has one link per time step, so it does not depend on how calls split the observations.

    Args:
        version: The session's current version.
        rows: New observations [time, targets and covariates], NaN for missing values.
        times: Each row's time in nanoseconds since the epoch; None if only position counts.
    """
    links = _links(rows)
    if times is not None:
        links = [link + at.to_bytes(8, "little", signed=True) for link, at in zip(links, times, strict=True)]
    tag = version.tag.to_bytes(8, "little")
    for link in links:
        tag = blake2b(tag + link, digest_size=8).digest()
    return Version(version.step + len(links), int.from_bytes(tag, "little"))


def _links(rows: NDArray[np.float64]) -> list[bytes]:
    """Return the bytes of each row, with one bit pattern for every NaN, and one for both zeros."""
    if rows.size == 1:  # the usual case, in which numpy is slow
        value = rows.item()
        return [_VALUE.pack(value + 0.0 if value == value else NAN)]
    canonical = np.where(np.isnan(rows), NAN, rows + 0.0).astype("<f8", copy=False)
    return [row.tobytes() for row in canonical]
