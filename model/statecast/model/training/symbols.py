"""Train a classifier on sequences of symbols.

    batches = excerpts(["first text", "second text"], config)
    classifier = train_symbols(batches, config)
    save_model(classifier, Path("models") / config.name / config.version)

Gradients reach back over one chunk of a sequence (truncated backpropagation through time). The state continues in the
next chunk, as it continues from request to request in the service.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import cos, log, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..classifier import Classifier, ClassifierConfig
from ..errors import DataError
from ..layers.cells import RecurrentLayers

WARM_UP_UPDATES = 50
LAST_RATE = 0.02
STEPS_AT_ONCE = 4096


@dataclass(frozen=True)
class SymbolBatch:
    """Sequences to learn from; a session starts at the first symbol of each.

    Attributes:
        numbers: The numbers of their symbols, NaN where missing or past the end, float64 [B, T].
        weights: The weight of each symbol's forecast in the loss, float32 [B, T]; None for equal weights.
    """

    numbers: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class SymbolSettings:
    """The settings of a training.

    Attributes:
        seed: The seed of the weights.
        updates: The number of weight updates.
        chunk: How many time steps gradients reach back.
        learning_rate: The highest learning rate.
        weight_decay: The weight decay of AdamW.
        largest_gradient: The norm above which a gradient is clipped.
        longest_memory: How many steps to remember: it sets the initial gates (`open_gates`). 0 leaves the gates
            unchanged, and a tanh RNN has none.
        threads: CPU threads. More rarely help models this small, and give slightly different weights.
        report_every: Updates between two lines of progress.
    """

    seed: int = 0
    updates: int = 1000
    chunk: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    largest_gradient: float = 1.0
    longest_memory: int = 0
    threads: int = 1
    report_every: int = 100


def excerpts(
    sequences: Sequence[Sequence[str]], config: ClassifierConfig, *, batch: int = 32, steps: int = 512, seed: int = 0
) -> Iterator[SymbolBatch]:
    """Cut random excerpts out of sequences, endlessly.

    Args:
        sequences: Sequences of symbols, such as texts, whose symbols are characters.
        config: The model to train.
        batch: The number of excerpts in a batch.
        steps: The largest length of an excerpt.
        seed: The seed of the excerpts' positions.

    Raises:
        DataError: There are no symbols.
        ObservationError: A symbol is not one of the classes.
    """
    numbers = [config.numbers(sequence) for sequence in sequences]
    lengths = np.array([len(each) for each in numbers])
    if not lengths.sum():
        raise DataError("sequences: expected at least one symbol")
    return _drawn(numbers, lengths / lengths.sum(), batch, steps, np.random.default_rng(seed))


def _drawn(
    numbers: list[Tensor], shares: NDArray[np.float64], batch: int, steps: int, rng: np.random.Generator
) -> Iterator[SymbolBatch]:
    while True:
        rows = torch.full((batch, steps), torch.nan, dtype=torch.float64)
        for row, chosen in zip(rows, rng.choice(len(numbers), batch, p=shares), strict=True):
            sequence = numbers[chosen]
            start = int(rng.integers(0, max(0, len(sequence) - steps) + 1))
            part = sequence[start : start + steps]
            row[: len(part)] = part
        yield SymbolBatch(rows)


def train_symbols(
    batches: Iterable[SymbolBatch],
    config: ClassifierConfig,
    settings: SymbolSettings | None = None,
    report: Callable[[str], object] = print,
) -> Classifier:
    """Train a new classifier; equal batches and settings give an equal classifier.

    Args:
        batches: The training data, in order; no more batches are read than necessary.
        config: The configuration of the classifier.
        settings: The settings of the training; None for the defaults.
        report: Called with each line of progress.

    Returns:
        The classifier, in evaluation mode.
    """
    settings = settings or SymbolSettings()
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            classifier = Classifier(config)
            open_gates(classifier.cell, settings.longest_memory)
        _train(classifier, batches, settings, report)
    finally:
        torch.set_num_threads(threads)
    return classifier.eval()


def open_gates(layers: RecurrentLayers, longest_memory: int) -> None:
    """Draw random biases that make the gates remember for 1 to `longest_memory` steps.

    This is the "chrono initialisation" of Tallec and Ollivier, Can recurrent neural networks warp time? (ICLR 2018).
    """
    if layers.kind == "rnn" or longest_memory < 3:
        return
    size = layers.hidden_size
    with torch.no_grad():
        for layer in range(layers.layers):
            keeping = torch.empty(size).uniform_(1, longest_memory - 1).log()
            added, recurrent = (getattr(layers.fused, f"{name}_l{layer}") for name in ("bias_ih", "bias_hh"))
            # The second part of the biases belongs to an LSTM's forget gate, or to a GRU's update gate.
            recurrent[: 2 * size] = 0
            added[size : 2 * size] = keeping
            if layers.kind == "lstm":
                added[:size] = -keeping


def bits_per_symbol(classifier: Classifier, sequences: Iterable[Sequence[str]]) -> float:
    """Return the mean cross-entropy of the next symbol in bits, for forecasts one step ahead.

    Every sequence is read from its first symbol, in a separate session.
    """
    bits, symbols = 0.0, 0
    for sequence in sequences:
        numbers = classifier.config.numbers(sequence).unsqueeze(0)
        state = classifier.initial_state(1)
        for part in numbers.split(STEPS_AT_ONCE, dim=1):  # type: ignore[no-untyped-call]
            trace = classifier.unroll(state, part.unsqueeze(2))
            state = trace.state
            with torch.no_grad():
                logits = classifier.logits(trace.outputs[0, :-1])[:, 0]
                bits += functional.cross_entropy(logits, part[0].long(), reduction="sum").item() / log(2)
        symbols += numbers.shape[1]
    return bits / max(1, symbols)


def _train(
    classifier: Classifier,
    batches: Iterable[SymbolBatch],
    settings: SymbolSettings,
    report: Callable[[str], object],
) -> None:
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: _rate(done, settings.updates))
    begun, losses = time.monotonic(), list[float]()
    classifier.train()
    for done, loss in enumerate(_losses(classifier, batches, settings.chunk), 1):
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), settings.largest_gradient)
        optimizer.step()
        schedule.step()
        losses.append(loss.item() / log(2))
        if done % settings.report_every == 0 or done == settings.updates:
            took = time.monotonic() - begun
            report(f"update {done}/{settings.updates}: {np.mean(losses):.3f} bits a symbol, {took:.0f} s")
            losses.clear()
        if done == settings.updates:
            return


def _losses(classifier: Classifier, batches: Iterable[SymbolBatch], chunk: int) -> Iterator[Tensor]:
    """Read the batches one after another, and yield the loss of each chunk."""
    for batch in batches:
        targets, weights = _targets(batch, classifier.config.horizon)
        state = classifier.initial_state(len(batch.numbers))
        values = batch.numbers.unsqueeze(2).to(classifier.device)
        for start in range(0, values.shape[1], chunk):
            trace = classifier.unroll(state, values[:, start : start + chunk])
            state = trace.state.detach()
            # The forecast before a chunk was the last one of the chunk before it, except for the first chunk.
            first = 0 if start == 0 else 1
            due = slice(start + first, start + trace.outputs.shape[1])
            logits = classifier.logits(trace.outputs[:, first:])
            yield _cross_entropy(logits, targets[:, due].to(logits.device), weights[:, due].to(logits.device))


def _targets(batch: SymbolBatch, horizon: int) -> tuple[Tensor, Tensor]:
    """Return the next symbols after 0 to T symbols, int64 [B, T + 1, horizon], and their weights, 0 if unknown."""
    numbers = batch.numbers
    weights = torch.ones_like(numbers, dtype=torch.float32) if batch.weights is None else batch.weights
    weights = torch.where(numbers.isnan(), 0.0, weights)
    padded = functional.pad(numbers.nan_to_num(), (0, horizon)).long()
    return padded.unfold(1, horizon, 1), functional.pad(weights, (0, horizon)).unfold(1, horizon, 1)


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy, a scalar in nats; logits: [B, T, horizon, K]."""
    losses = functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum().clamp(min=1e-6)


def _rate(done: int, updates: int) -> float:
    """Return the share of the highest learning rate: a warm-up, then a cosine decay."""
    cosine = LAST_RATE + (1 - LAST_RATE) * (1 + cos(pi * min(done / updates, 1.0))) / 2
    return min(1.0, (done + 1) / WARM_UP_UPDATES) * cosine
