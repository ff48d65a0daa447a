"""Memory of recurrent cells: a question about a cue that came hundreds of requests earlier.

    .venv/bin/python examples/recall.py

A session receives one symbol a request: first the cue, A or B, then hundreds of distractors, then "?". The right answer
is the cue. The example trains an LSTM and a tanh RNN of the same size in the same way on the same sequences. It saves
and serves them, and queries sessions of both over gRPC. Only the recurrent state in Redis carries the cue from the
first request to the last. Guesses are right half of the time.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import sqrt
from pathlib import Path

import numpy as np
import torch

from statecast.client import Client, Forecast, Gates, Session, StatecastError
from statecast.client.plotting import plot_gates
from statecast.model import Classifier, ClassifierConfig, save_model
from statecast.model.training.symbols import SymbolBatch, SymbolSettings, train_symbols
from statecast.testing import LocalServer

CUES = ("A", "B")
ASK = "?"
DISTRACTORS = tuple("abcdefgh")
CLASSES = (*CUES, ASK, *DISTRACTORS)
CELLS = ("lstm", "rnn")
PICTURE = Path("statecast-recall.png")


@dataclass(frozen=True)
class Task:
    """Settings of training and questions.

    Attributes:
        longest_gap: Most distractors between cue and question in training; drawn uniformly from 1 up.
        updates: Batches to train each cell on, one update each.
        batch: Sequences in a batch.
        hidden_size: Hidden size of both cells.
        longest_memory: Memory, in steps, to which the LSTM's gates are initialized; an RNN has no gates.
        seed: Seed of weights, sequences and questions.
        gaps: Gaps to ask at, ascending.
        sessions: Sessions per cell.
    """

    longest_gap: int = 200
    updates: int = 800
    batch: int = 64
    hidden_size: int = 32
    longest_memory: int = 300
    seed: int = 0
    gaps: tuple[int, ...] = (50, 200, 400)
    sessions: int = 100


def lessons(task: Task) -> Iterator[SymbolBatch]:
    """Yield batches of training sequences without end: cue, distractors, question, cue; one gap per batch."""
    rng = np.random.default_rng(task.seed)
    while True:
        gap = int(rng.integers(1, task.longest_gap + 1))
        cues = rng.integers(0, len(CUES), (task.batch, 1))
        distractors = rng.integers(len(CUES) + 1, len(CLASSES), (task.batch, gap))
        asks = np.full_like(cues, CLASSES.index(ASK))
        numbers = torch.from_numpy(np.concatenate([cues, distractors, asks, cues], axis=1)).double()
        # The answer has ten times the weight of all other symbols together, which are random.
        weights = torch.full(numbers.shape, 0.1 / (gap + 2))
        weights[:, -1] = 1.0
        yield SymbolBatch(numbers, weights)


def train(cell: str, task: Task) -> Classifier:
    """Train a classifier with this cell; all other settings are the same for both cells."""
    config = ClassifierConfig(
        name=f"recall-{cell}", version="1", cell=cell, hidden_size=task.hidden_size, classes=CLASSES
    )
    settings = SymbolSettings(
        seed=task.seed,
        updates=task.updates,
        chunk=task.longest_gap + 3,  # so that the answer's gradient reaches back to the cue
        learning_rate=5e-3,
        longest_memory=task.longest_memory,
        report_every=max(1, task.updates // 4),
    )
    print(f"training {cell}: {config.hidden_size} units, gaps of 1 to {task.longest_gap}", flush=True)
    return train_symbols(lessons(task), config, settings, lambda line: print(f"  {line}", flush=True))


def ask(client: Client, model: str, task: Task) -> dict[int, float]:
    """Send sessions one symbol a request, ask at every gap, and return the share of right answers by gap.

    At each gap the question goes to a fork of the session, so that the session itself never sees it.
    """
    rng = np.random.default_rng(task.seed + 1)
    number = {symbol: float(index) for index, symbol in enumerate(client.model(model).classes)}
    cues = rng.permutation([CUES[index % len(CUES)] for index in range(task.sessions)])
    sessions = [client.session(f"{model}-{index}", model) for index in range(task.sessions)]
    tell(client, ((session, number[cue]) for session, cue in zip(sessions, cues, strict=True)))
    shares, told = {}, 0
    for gap in task.gaps:
        # Sessions alternate at each step: many requests are in flight, though each carries a single symbol.
        steps = product(range(told, gap), sessions)
        tell(client, ((session, number[str(rng.choice(DISTRACTORS))]) for _, session in steps))
        told = gap
        copies = [session.fork(f"{session.id}-after-{gap}") for session in sessions]
        answers = tell(client, ((copy, number[ASK]) for copy in copies), horizon=1)
        shares[gap] = float(np.mean([answer(each) == cue for each, cue in zip(answers, cues, strict=True)]))
    return shares


def tell(client: Client, pairs: Iterable[tuple[Session, float]], horizon: int = 0) -> list[Forecast]:
    """Send one request for each pair over a stream, and return the forecasts, if a horizon is given.

    Raises:
        StatecastError: If a request failed.
    """
    forecasts = []
    for _, result in client.stream(pairs, horizon):
        if isinstance(result, StatecastError):
            raise result
        if isinstance(result, Forecast):
            forecasts.append(result)
    return forecasts


def answer(forecast: Forecast) -> str:
    """Return the more probable cue as the next symbol."""
    return max(CUES, key=lambda cue: float(forecast.probability(cue)[0]))


def noise(sessions: int) -> float:
    """Return two standard deviations of the share of right guesses among `sessions`."""
    return 2 * sqrt(0.25 / sessions)


def gates_of(client: Client, model: str, cue: str, gap: int, seed: int) -> list[Gates]:
    """Run one session from the cue to the question, and return the gates of each request."""
    distractors = np.random.default_rng(seed).choice(DISTRACTORS, gap)
    classes = client.model(model).classes
    session = client.session(f"{model}-explained-{cue}", model)
    receipts = [session.observe(classes.index(str(symbol)), explain=True) for symbol in (cue, *distractors, ASK)]
    return [receipt.gates for receipt in receipts if receipt.gates is not None]


def explain(client: Client, model: str, gap: int, seed: int, picture: Path) -> str:
    """Draw the gates of an LSTM's session, and describe the unit that differs most by cue before the question.

    Sessions of both cues get the same distractors, so only the cue can make them differ.
    """
    by_cue = {cue: gates_of(client, model, cue, gap, seed) for cue in CUES}
    cells = {cue: np.array([each.cell[0] for each in gates if each.cell is not None]) for cue, gates in by_cue.items()}
    unit = int(np.abs(np.tanh(cells[CUES[0]][-2]) - np.tanh(cells[CUES[1]][-2])).argmax())
    at = by_cue[CUES[0]][0].names.index
    entered = {cue: gates[0].values[0, at("input"), unit] for cue, gates in by_cue.items()}
    shown = max(CUES, key=entered.__getitem__)
    kept = [each.values[0, at("forget"), unit] for each in by_cue[shown][1:-1]]
    plot_gates(by_cue[shown], path=picture)
    return (
        f"the LSTM's gates from cue {shown} (request 1) to {ASK} (request {gap + 2}): {picture}\n"
        f"of its units, {unit} tells the cues apart best: its input gate is open by "
        + " and ".join(f"{entered[cue]:.2f} at {cue}" for cue in CUES)
        + f",\nits forget gate by {min(kept):.4f} or more over {gap} distractors, and its cell state is then "
        + " and ".join(f"{cells[cue][-2, unit]:+.1f} after {cue}" for cue in CUES)
    )


def report(shares: dict[str, dict[int, float]], sessions: int) -> str:
    """Return a table of right answers: a line for each gap, a column for each cell."""
    lines = [f"{'requests between':>18}" + "".join(f"{cell:>8}" for cell in shares)]
    lines += [
        f"{gap:>18}" + "".join(f"{by_gap[gap]:>8.3f}" for by_gap in shares.values())
        for gap in next(iter(shares.values()))
    ]
    chance = f"chance is 0.500, and guesses of {sessions} sessions lie within +-{noise(sessions):.3f} (95 %)"
    return "\n".join([*lines, chance])


def run(task: Task, models: Path, picture: Path | None = None) -> dict[str, dict[int, float]]:
    """Train, serve and query every cell; return the share of right answers by cell and gap."""
    for cell in CELLS:
        classifier = train(cell, task)
        save_model(classifier, models / classifier.config.name / classifier.config.version)
    with LocalServer("--models", str(models)) as server, Client(server.target, timeout_seconds=60) as client:
        shares = {}
        for cell in CELLS:
            print(f"asking {task.sessions} sessions of {cell}, one symbol a request", flush=True)
            shares[cell] = ask(client, f"recall-{cell}", task)
        if picture is not None:
            print(explain(client, "recall-lstm", 100, task.seed, picture))
    return shares


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description="What an LSTM and a tanh RNN remember over hundreds of requests.")
    parser.add_argument("--sessions", type=int, default=Task.sessions, help="sessions of each cell to ask")
    parser.add_argument("--models", type=Path, help="where to leave the models; by default they are removed")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw the LSTM's gates")
    arguments = parser.parse_args()
    task = Task(sessions=arguments.sessions)
    with tempfile.TemporaryDirectory() as folder:
        shares = run(task, arguments.models or Path(folder), arguments.picture)
    print(report(shares, task.sessions))


if __name__ == "__main__":
    main()
