"""Fuzz every RPC with a few examples; `python -m fuzz` uses many."""

import pytest

from fuzz.fuzz import fuzz
from fuzz.place import Place
from fuzz.rpcs import RPCS

EXAMPLES = 40


@pytest.mark.parametrize("name", RPCS)
def test_everything_is_answered_with_a_success_or_a_typed_error(fuzzed: Place, name: str) -> None:
    report = fuzz(fuzzed, RPCS[name], EXAMPLES)
    assert not report.findings, "\n".join(map(str, (report, *report.findings)))
    assert len(report.codes) > 1, report
    assert report.codes["INVALID_ARGUMENT"], report
