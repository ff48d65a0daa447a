"""Training on sequences of symbols."""

from itertools import islice
from math import log2

import numpy as np
import pytest
import torch

from statecast.model import Classifier, ClassifierConfig, ObservationError
from statecast.model.errors import DataError
from statecast.model.layers.cells import RecurrentLayers
from statecast.model.training.symbols import (
    SymbolBatch,
    SymbolSettings,
    bits_per_symbol,
    excerpts,
    open_gates,
    train_symbols,
)

QUICK = SymbolSettings(updates=60, chunk=16, learning_rate=0.02, threads=1, report_every=20)


def config(**changes: object) -> ClassifierConfig:
    values = {"name": "m", "version": "1", "hidden_size": 16, "classes": tuple("abcd"), **changes}
    return ClassifierConfig(**values)  # type: ignore[arg-type]


def trained(settings: SymbolSettings = QUICK, lines: list[str] | None = None) -> Classifier:
    batches = excerpts(["abcd" * 30, "dcba" * 30], config(), batch=8, steps=40)
    return train_symbols(batches, config(), settings, (list[str]() if lines is None else lines).append)


def test_it_learns_what_comes_next_and_says_how_it_goes() -> None:
    lines: list[str] = []
    model = trained(lines=lines)
    assert not model.training
    assert bits_per_symbol(model, ["abcd" * 20, "dcba" * 20]) < 1  # a guess takes 2
    assert [line.split(":")[0] for line in lines] == ["update 20/60", "update 40/60", "update 60/60"]


def test_the_same_seed_gives_the_same_model_and_leaves_the_threads_alone() -> None:
    threads = torch.get_num_threads()
    first, second = trained(), trained()
    assert first.digest == second.digest
    assert trained(SymbolSettings(**{**vars(QUICK), "seed": 1})).digest != first.digest
    assert torch.get_num_threads() == threads


def test_an_untrained_model_needs_about_what_a_guess_needs() -> None:
    torch.manual_seed(0)
    model = Classifier(config()).eval()
    rng = np.random.default_rng(0)
    noise = ["".join(rng.choice(list("abcd"), 9000))]
    assert bits_per_symbol(model, noise) == pytest.approx(log2(4), abs=0.15)


def test_only_what_has_weight_is_learnt() -> None:
    numbers = config().numbers("abcd" * 8).expand(4, -1)
    weights = (numbers == 1).float()
    model = train_symbols(iter([SymbolBatch(numbers, weights)] * 40), config(), QUICK, list[str]().append)
    trace = model.advance(model.initial_state(1), numbers[:1].unsqueeze(2))
    forecast = model.forecast(trace.context(torch.tensor([0, 0]), torch.tensor([5, 6])), 1)[:, 0, :, 0]
    assert forecast[0, 1] > 0.9  # b after a
    assert forecast[1, 2] < 0.5  # c after b


def test_every_step_of_the_horizon_is_learnt() -> None:
    wide = config(horizon=3)
    model = train_symbols(excerpts(["abcd" * 30], wide, batch=8, steps=40), wide, QUICK, list[str]().append)
    trace = model.advance(model.initial_state(1), wide.numbers("abcdab").view(1, -1, 1))
    assert model.forecast(model.context(trace.state), 3)[0, :, :, 0].argmax(1).tolist() == [2, 3, 0]


def test_excerpts_are_cut_from_sequences_and_padded() -> None:
    batches = list(islice(excerpts(["abcdabcd", "cc"], config(), batch=50, steps=4), 2))
    rows = [row for batch in batches for row in batch.numbers.tolist()]
    texts = {"".join("abcd"[int(number)] for number in row if number == number) for row in rows}
    assert texts <= {"abcd", "bcda", "cdab", "dabc", "cc"}
    assert {"cc", "abcd"} <= texts
    with pytest.raises(DataError, match="at least one symbol"):
        excerpts([""], config())
    with pytest.raises(ObservationError, match="'z'"):
        excerpts(["abz"], config())


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_gates_begin_with_the_memory_asked_for(kind: str) -> None:
    torch.manual_seed(0)
    layers = RecurrentLayers(kind, 3, 64, 2)
    before = {name: weight.clone() for name, weight in layers.named_parameters()}
    open_gates(layers, 1000)
    if kind == "rnn":
        assert all(torch.equal(before[name], weight) for name, weight in layers.named_parameters())
        return
    for layer in range(2):
        added, recurrent = (getattr(layers.fused, f"{name}_l{layer}") for name in ("bias_ih", "bias_hh"))
        kept = torch.sigmoid((added + recurrent)[64:128])
        memory = 1 / (1 - kept)  # steps after which a unit keeps only 1/e of its state
        assert 2 <= memory.min() < 100
        assert 700 < memory.max() <= 1000
