"""Versions sort as people expect, and the next one is the newest."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.model.versions import version_after, version_order

ORDERED = [
    ["1", "2", "9", "10", "11"],
    ["1.9.0", "1.9.1", "1.10.0", "1.10.0.1", "2.0-rc1", "2.0-rc.2", "2.0", "2.0-hotfix", "2.0.1"],
    ["v1", "v2", "v9.1", "v10", "11"],
    ["1.0.dev3", "1.0a1", "1.0b2", "1.0rc1", "1.0", "1.0.post1"],
    ["2024-05-01", "2024-05-02", "2024-11-01", "2025-01-01"],
    ["20240501", "20241101"],
    ["2", "10", "new"],
]


@pytest.mark.parametrize("ordered", ORDERED, ids=lambda ordered: ordered[0])
def test_versions_are_in_the_order_that_people_expect(ordered: list[str]) -> None:
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert sorted(shuffled, key=version_order) == ordered


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=4), st.sampled_from(["", "v"]))
def test_numbers_between_dots_count_as_numbers(numbers: list[int], prefix: str) -> None:
    raised = [*numbers[:-1], numbers[-1] + 1]
    before, after = (prefix + ".".join(map(str, each)) for each in (numbers, raised))
    assert version_order(before) < version_order(after)
    assert version_order(before) < version_order(f"{before}.0") or not numbers


@given(st.lists(st.from_regex(r"[0-9a-z._+-]{1,12}", fullmatch=True), min_size=1, max_size=6, unique=True))
def test_the_order_is_total_and_the_next_version_is_the_newest_numbered_one(versions: list[str]) -> None:
    assert len({version_order(version) for version in versions}) == len(versions)
    following = version_after(versions)
    assert following not in versions
    assert all(version_order(each) < version_order(following) for each in versions if not version_order(each)[0])


@pytest.mark.parametrize(
    ("versions", "following"),
    [([], "1"), (["2", "10", "new"], "11"), (["v2", "v10"], "v11"), (["1.9.0", "1.10.0"], "1.10.1"), (["009"], "010")],
)
def test_the_next_version_follows_the_scheme_of_the_newest(versions: list[str], following: str) -> None:
    assert version_after(versions) == following
