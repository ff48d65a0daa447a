"""The raw values in a packed state are those that a session has taken last."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.hash_model import HashModel
from support.models import imported_model, shop_model, symbol_model, tiny_model

from statecast.model import StreamingModel, least_steps_of, raw_rows_of


def kept(model: StreamingModel, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the raw values in the packed state of a session that has taken values [time, width]."""
    times = torch.arange(len(values)).unsqueeze(0) * 3_600_000_000_000 if model.config.frequency else None
    state = model.advance(model.initial_state(1), torch.from_numpy(values).unsqueeze(0), times=times).state
    found = raw_rows_of(model)
    assert found is not None
    (packed,) = model.layout.pack(state)
    return np.frombuffer(packed, "<f8", found.rows * found.width, found.start).reshape(found.rows, found.width)


@pytest.mark.parametrize(
    "model", [tiny_model(), tiny_model("three"), shop_model(), HashModel()], ids=lambda m: m.config.name
)
@pytest.mark.parametrize("steps", [3, 50])
def test_a_window_holds_the_last_targets(model: StreamingModel, steps: int) -> None:
    targets = len(model.config.targets)
    width = targets + len(model.config.covariates)
    values = np.random.default_rng(0).integers(1, 100, (steps, width)).astype(float)
    rows = kept(model, values)
    expected = values[-len(rows) :, :targets]
    np.testing.assert_array_equal(rows[len(rows) - len(expected) :], expected)
    assert np.isnan(rows[: len(rows) - len(expected)]).all()
    assert least_steps_of(model) == 1


def test_an_imported_network_keeps_what_its_inputs_need(tmp_path: Path) -> None:
    model = imported_model(tmp_path, missing="carry", difference=1)
    np.testing.assert_array_equal(kept(model, np.arange(9.0).reshape(-1, 1)), [[8.0]])
    assert least_steps_of(model) == 1 + 4


def test_others_keep_no_raw_values(tmp_path: Path) -> None:
    assert raw_rows_of(symbol_model()) is None
    assert raw_rows_of(imported_model(tmp_path)) is None
