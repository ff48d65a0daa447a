"""The mutants apply to the current code; `make mutants` checks that the tests catch them."""

import shutil
from pathlib import Path

import pytest

from mutants.tree import ROOT, apply, patches, sentence, touched

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")


@pytest.mark.parametrize("patch", patches(), ids=lambda patch: patch.stem)
def test_it_applies_and_says_what_it_is(patch: Path) -> None:
    assert apply(patch, ROOT, check_only=True) == ""
    assert patch.read_text().startswith("# ")
    assert sentence(patch).endswith(".")
    assert len(sentence(patch)) <= 118
    assert touched(patch)


def test_there_are_many_and_each_is_another() -> None:
    assert len(patches()) >= 14
    changes = {patch.read_text().partition("\n")[2] for patch in patches()}
    assert len(changes) == len({sentence(patch) for patch in patches()}) == len(patches())
