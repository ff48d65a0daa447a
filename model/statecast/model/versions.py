"""The order of model versions: 1.10.0 comes after 1.9.0, v10 after v2, and 2.0-rc1 before 2.0."""

import re
from collections.abc import Iterable

_PARTS = re.compile(r"\d+|[a-z]+")
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
_EARLY = {"dev": 0, "alpha": 1, "a": 1, "beta": 2, "b": 2, "c": 3, "rc": 3, "pre": 3, "preview": 3}
"""Words before a release, in their order."""
_BEFORE, _END, _WORD, _NUMBER = range(4)


def version_order(version: str) -> tuple[int, tuple[tuple[int, int, str], ...], str]:
    """Return a sort key for versions, oldest first.

    Numbers in a version count as numbers, a leading v does not count, and words such as `rc` come before the end.
    Versions that begin with a word come after those that begin with a number.
    """
    text = re.sub(r"^v(?=[\d._-])", "", version.lower())
    parts = [_part(part, position) for position, part in enumerate(_PARTS.findall(text))]
    return int(not text[:1].isdecimal()), (*parts, (_END, 0, "")), version


def version_after(versions: Iterable[str]) -> str:
    """Return the version to follow the newest one that begins with a number, or v and a number; "1" without any.

    Its last number is the next one.
    """
    numbered = [version for version in versions if not version_order(version)[0]]
    if not numbered:
        return "1"
    newest = max(numbered, key=version_order)
    return _LAST_NUMBER.sub(lambda found: str(int(found[0]) + 1).zfill(len(found[0])), newest)


def _part(part: str, position: int) -> tuple[int, int, str]:
    if part.isdecimal():
        return _NUMBER, int(part), ""
    if position and part in _EARLY:
        return _BEFORE, _EARLY[part], part
    return _WORD, 0, part
