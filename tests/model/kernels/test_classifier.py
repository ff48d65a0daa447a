"""A classifier gives by kernels what it gives in torch."""

import numpy as np
import pytest
import torch

from statecast.model import Classifier, ClassifierConfig, ObservationError
from statecast.model.kernels.stepping import fuse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("kernels")]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("sessions", [1, 4, 5, 40])
def test_symbols_give_the_same_in_torch_and_by_kernels(cell: str, sessions: int) -> None:
    config = ClassifierConfig(
        name="x", version="1", cell=cell, layers=2, hidden_size=7, classes=("a", "b", "\n"), horizon=3
    )
    one, other = Classifier(config).eval(), Classifier(config).eval()
    other.load_state_dict(one.state_dict())
    fuse(other)
    rng, states = np.random.default_rng(sessions), [one.initial_state(sessions)] * 2
    for steps in (1, 3, 1, 9):
        symbols = rng.integers(0, 3, (sessions, steps, 1)).astype(float)
        symbols[rng.random(symbols.shape) < 0.1] = np.nan
        lengths = torch.from_numpy(rng.integers(0, steps + 1, sessions)) if steps == 3 else None
        traces = [
            model.advance(state, torch.from_numpy(symbols), lengths)
            for model, state in zip((one, other), states, strict=True)
        ]
        states = [trace.state for trace in traces]
        for part in states[0]:
            torch.testing.assert_close(states[1][part], states[0][part], rtol=1e-5, atol=1e-6)
        rows = torch.from_numpy(rng.integers(0, sessions, 2))
        at = torch.stack([traces[0].lengths[row] // 2 for row in rows])  # type: ignore[attr-defined]
        contexts = [trace.context(rows, at) for trace in traces], [one.context(trace.state) for trace in traces]
        for pair in contexts:
            said = [model.forecast(context, 2).detach() for model, context in zip((one, other), pair, strict=True)]
            torch.testing.assert_close(said[1], said[0], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(said[1].sum(2), torch.ones_like(said[1].sum(2)))
        assert bool(traces[1].pit.isnan().all())


def test_symbols_that_are_no_class_are_refused() -> None:
    classifier = Classifier(ClassifierConfig(name="x", version="1", classes=("a", "b"))).eval()
    fuse(classifier)
    for wrong in (2.0, -1.0, 0.5, np.inf):
        with pytest.raises(ObservationError, match="values: expected the number of a class"):
            classifier.advance(classifier.initial_state(1), torch.full((1, 1, 1), wrong, dtype=torch.float64))
