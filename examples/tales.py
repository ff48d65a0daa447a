"""Random short tales of people and their animals, whose end depends on their beginning.

A tale names its person, animals, number and place once. They return sentences later, with the pronoun and the new
number. A model that sees only the last few characters cannot predict them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

PEOPLE = (
    ("Mira", "she", "her"),
    ("Tobin", "he", "his"),
    ("Old Anselm", "he", "his"),
    ("Greta", "she", "her"),
    ("Father Ulric", "he", "his"),
    ("Widow Hale", "she", "her"),
    ("Young Perrin", "he", "his"),
    ("Isolde", "she", "her"),
)
PLACES = ("Harrow", "Low Marsh", "Kettlebridge", "Saltby", "Thornwick", "Upper Fell", "Quarrydown", "Wexmouth")
ANIMALS = (("goose", "geese"), ("goat", "goats"), ("hen", "hens"), ("sheep", "sheep"), ("pig", "pigs"), ("ox", "oxen"))
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
SEASONS = ("spring", "summer", "autumn", "winter")
OPENINGS = ("{name} of {place} kept {herd}.", "In {place} lived {name}, who had {herd}.")
LOSSES = (
    "One {season} a {thief} took {some}, and {left} remained.",
    "That {season} {some} went to a {thief}; {left} stayed.",
)
GAINS = (
    "In {season} {some} more came over the wall, which made {left}.",
    "By the end of {season} there were {some} more, {left} in all.",
)
THIEVES = ("fox", "stranger", "wolf", "flood", "cousin", "tax collector", "fever", "bear")
TELLINGS = ('{Who} told the {listener}, who said: "{saying}."', '"{saying}," said the {listener} to {name}.')
LISTENERS = ("miller", "priest", "smith", "judge", "ferryman", "midwife")
SAYINGS = (
    "Count them again at dawn",
    "What is gone is gone",
    "A shut gate keeps its own counsel",
    "The river gives nothing back",
    "Ask me when the bells ring",
    "Nobody owns the rain",
)
JOURNEYS = (
    "When {after} came, {name} took {whose} {many} down {road} and came home with {goods}.",
    "So {who} went by {road} to the {after} fair, and bought {goods}.",
)
ROADS = ("the mill road", "the ferry", "the long hill", "the chapel steps", "the salt path")
GOODS = ("a copper kettle", "a sack of barley", "two lanterns", "a blue coat", "a jar of honey", "a new rope")
ENDINGS = (
    "Now there are {left} {many} in {place}, and {goods}, and {name} {mood}.",
    "{name} {mood}, with {left} {many} and {goods}.",
)
MOODS = ("is content", "sleeps badly", "says nothing", "laughs about it", "weeps a little", "dreams of the sea")


@dataclass
class Teller:
    """A source of tales that counts the bits of its random choices.

    Every choice shows in the text, so these bits are the text's entropy. No model can predict it with fewer bits.

    Attributes:
        rng: Random generator of the choices.
        bits: Bits of all choices so far.
    """

    rng: np.random.Generator
    bits: float = 0.0

    def tale(self) -> str:
        """Return one tale, which ends with a newline."""
        name, who, whose = PEOPLE[self._choice(len(PEOPLE))]
        one, many = ANIMALS[self._choice(len(ANIMALS))]
        herd, season, change = 4 + self._choice(5), self._choice(len(SEASONS)), 1 + self._choice(2)
        event, left = (LOSSES, herd - change) if self._choice(2) else (GAINS, herd + change)
        place, goods = self._of(PLACES), self._of(GOODS)
        words = {
            "name": name,
            "who": who,
            "Who": who.capitalize(),
            "whose": whose,
            "place": place,
            "herd": f"{NUMBERS[herd]} {many}",
            "many": many,
            "some": f"{NUMBERS[change]} {one if change == 1 else many}",
            "left": NUMBERS[left],
            "season": SEASONS[season],
            "after": SEASONS[(season + 1) % len(SEASONS)],
            "goods": goods,
            "listener": self._of(LISTENERS),
            "saying": self._of(SAYINGS),
            "road": self._of(ROADS),
            "mood": self._of(MOODS),
        }
        if event is LOSSES:
            words["thief"] = self._of(THIEVES)
        opening, ending = self._of(OPENINGS), self._of(ENDINGS)
        forms = (opening, self._of(event), self._of(TELLINGS), self._of(JOURNEYS), ending)
        return " ".join(form.format(**words) for form in forms) + "\n"

    def _choice(self, options: int) -> int:
        self.bits += log2(options)
        return int(self.rng.integers(options))

    def _of(self, options: Sequence[str]) -> str:
        return options[self._choice(len(options))]


def tales(count: int, seed: int) -> tuple[list[str], float]:
    """Return `count` tales, and their entropy in bits a character."""
    teller = Teller(np.random.default_rng(seed))
    told = [teller.tale() for _ in range(count)]
    return told, teller.bits / sum(map(len, told))
