"""Forecasts of a text, character by character, through a service.

    .venv/bin/python examples/text.py

The example trains an LSTM on short tales (from tales.py), serves it, and streams unseen tales through sessions. Each
request carries one character, and its answer holds the probabilities of the next one. The example prints the bits that
a character takes, and compares them with n-gram counts and with the tales' own entropy. Then the model continues a
tale: each forecast yields a random character, which goes back to the same session.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from math import log2
from pathlib import Path

import numpy as np
from tales import tales

from statecast.client import Client, Forecast, StatecastError
from statecast.model import ClassifierConfig, save_model
from statecast.model.training.symbols import SymbolSettings, excerpts, train_symbols
from statecast.testing import LocalServer

MODEL = "tales"
# Every tale ends with it, so a session that starts with it begins a tale.
BREAK = "\n"
OPENING = "Greta of Saltby kept seven goats. One winter a wolf took two goats, and"


@dataclass(frozen=True)
class Task:
    """Settings of training and forecasts.

    Attributes:
        lessons: Tales to train on.
        held_out: Other tales to forecast.
        updates: Updates of the weights.
        hidden_size: Hidden size of the LSTM.
        seed: Seed of weights, tales and draws.
        longest: Most characters with which the model continues a tale.
    """

    lessons: int = 3000
    held_out: int = 40
    updates: int = 2400
    hidden_size: int = 128
    seed: int = 0
    longest: int = 400


def train(stories: Sequence[str], task: Task, models: Path) -> None:
    """Train on the stories, and save the model in the folder."""
    text = BREAK + "".join(stories)
    config = ClassifierConfig(
        name=MODEL, version="1", cell="lstm", hidden_size=task.hidden_size, classes=tuple(sorted(set(text)))
    )
    settings = SymbolSettings(seed=task.seed, updates=task.updates, learning_rate=8e-3)
    batches = excerpts([text], config, batch=16, steps=512, seed=task.seed)
    classifier = train_symbols(batches, config, settings, lambda line: print(f"  {line}", flush=True))
    save_model(classifier, models / config.name / config.version)


def streamed_bits(client: Client, stories: Sequence[str]) -> float:
    """Stream each story through its own session, one character a request, and return the bits a character."""
    number = {symbol: float(index) for index, symbol in enumerate(client.model(MODEL).classes)}
    sessions = [client.session(f"story-{index}", MODEL) for index in range(len(stories))]
    # Before each forecast of a character, a session has received the break and the story up to that character.
    told = [
        [(session, number[symbol]) for symbol in BREAK + story[:-1]]
        for session, story in zip(sessions, stories, strict=True)
    ]
    due = [list(story) for story in stories]
    # The stories alternate: many requests are in flight, though each carries a single character.
    requests = [each for each in chain.from_iterable(zip_longest(*told)) if each is not None]
    outcomes = [each for each in chain.from_iterable(zip_longest(*due)) if each is not None]
    bits = 0.0
    for outcome, (_, forecast) in zip(outcomes, client.stream(requests, horizon=1), strict=True):
        if isinstance(forecast, StatecastError):
            raise forecast
        if isinstance(forecast, Forecast):
            bits -= log2(forecast.probability(outcome)[0])
    return bits / len(outcomes)


def continued(client: Client, opening: str, task: Task) -> str:
    """Continue an opening, one request a character, until the tale ends."""
    rng = np.random.default_rng(task.seed)
    session = client.session("continued", MODEL)
    classes = client.model(MODEL).classes
    for symbol in BREAK + opening[:-1]:
        session.observe(classes.index(symbol))
    drawn, symbol = "", opening[-1]
    while symbol != BREAK and len(drawn) < task.longest:
        probabilities = session.step(classes.index(symbol), horizon=1).values[0, :, 0].astype(float)
        symbol = classes[rng.choice(len(classes), p=probabilities / probabilities.sum())]
        drawn += symbol
    return drawn.rstrip(BREAK)


class Counting:
    """The usual baseline: n-gram counts, which forecast a character from the few before it.

    The rarer a context was in training, the more weight the next shorter context gets.
    """

    def __init__(self, stories: Sequence[str], order: int, classes: int) -> None:
        self.order, self.classes = order, classes
        self._followed: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        text = BREAK + "".join(stories)
        for length in range(order):
            self._followed.update(text[at - length : at + 1] for at in range(length, len(text)))
            self._seen.update(text[at - length : at] for at in range(length, len(text)))

    def bits(self, stories: Sequence[str]) -> float:
        """Return the bits a character; each story starts without context."""
        spent = 0.0
        for story in stories:
            text = BREAK + story
            spent -= sum(
                log2(self._probability(text[max(0, at - self.order + 1) : at], text[at])) for at in range(1, len(text))
            )
        return spent / sum(map(len, stories))

    def _probability(self, context: str, symbol: str) -> float:
        shorter = self._probability(context[1:], symbol) if context else 1 / self.classes
        return (self._followed[context + symbol] + shorter) / (self._seen[context] + 1)


def run(task: Task, models: Path) -> tuple[dict[str, float], str]:
    """Train, serve and stream; return the bits a character by model, and the model's continuation of a tale."""
    lessons, _ = tales(task.lessons, task.seed)
    held_out, entropy = tales(task.held_out, task.seed + 1)
    print(f"training on {len(lessons)} tales of {sum(map(len, lessons)):,} characters", flush=True)
    train(lessons, task, models)
    with LocalServer("--models", str(models)) as server, Client(server.target, timeout_seconds=60) as client:
        print(f"streaming {len(held_out)} other tales, {sum(map(len, held_out)):,} requests", flush=True)
        lstm = streamed_bits(client, held_out)
        tale = continued(client, OPENING, task)
        classes = len(client.model(MODEL).classes)
    bits = {"uniform": log2(classes)}
    for name, order in (("unigram", 1), ("trigram", 3), ("6-gram", 6)):
        bits[name] = Counting(lessons, order, classes).bits(held_out)
    return {**bits, "LSTM, streamed": lstm, "the tales' own entropy": entropy}, tale


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description="Foretell a text character by character through a service.")
    parser.add_argument("--models", type=Path, help="where to leave the model; by default it is removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bits, tale = run(Task(), arguments.models or Path(folder))
    print("bits a character:")
    for name, each in bits.items():
        print(f"  {name:<24}{each:6.3f}")
    print(f"\n{OPENING}[{tale}]")


if __name__ == "__main__":
    main()
