"""The next character of a text, through a real server."""

from math import log2
from pathlib import Path

import pytest
import tales
import text

TASK = text.Task(lessons=300, held_out=4, updates=250, hidden_size=64, longest=60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_text_is_foretold_character_by_character_over_the_wire(tmp_path: Path) -> None:
    bits, tale = text.run(TASK, tmp_path)
    assert bits["the tales' own entropy"] < bits["LSTM, streamed"] < bits["trigram"] < bits["unigram"] < bits["uniform"]
    assert 1 <= len(tale) <= 60


def test_counting_knows_what_it_has_seen() -> None:
    assert text.Counting(["abab\n"] * 50, 1, 3).bits(["abab\n"]) == pytest.approx(
        log2(5 / 2) * 0.8 + log2(5) / 5, abs=0.1
    )
    assert text.Counting(["abab\n"] * 50, 3, 3).bits(["abab\n"]) < 0.5
    # What was never seen is not impossible.
    assert text.Counting(["abab\n"], 3, 4).bits(["c\n"]) > 2


def test_tales_are_told_anew_for_each_seed_and_their_sums_are_right() -> None:
    first, entropy = tales.tales(200, 0)
    assert first == tales.tales(200, 0)[0]
    assert not set(first) & set(tales.tales(200, 1)[0])
    assert 0.05 < entropy < 0.3
    number = {word: value for value, word in enumerate(tales.NUMBERS)}
    for tale in first:
        assert tale.endswith(".\n")
        counts = [
            number[word]
            for word in tale.replace(",", " ").replace(";", " ").replace(".", " ").split()
            if word in number
        ]
        # "two lanterns" are goods, not part of the herd.
        counts = [count for count, word in zip(counts, _nouns(tale), strict=True) if word != "lanterns"]
        before, change, after, at_last = counts
        assert abs(before - after) == change
        assert after == at_last


def _nouns(tale: str) -> list[str]:
    """The word after each number."""
    words = tale.replace(",", " ").replace(";", " ").replace(".", " ").split()
    return [(*words, "")[at + 1] for at, word in enumerate(words) if word in tales.NUMBERS]
