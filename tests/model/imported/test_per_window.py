"""Networks whose windows are scaled by their own mean and deviation, beside the loops of those who trained them."""

from pathlib import Path

import pytest
import torch
from support.imported_networks import STEPS, WINDOW, made, medians, network, series

from statecast.model import ConfigError, ImportedConfig


@torch.inference_mode()
@pytest.mark.parametrize("ddof", [0, 1])
def test_each_window_is_scaled_by_its_own_values(tmp_path: Path, ddof: int) -> None:
    lstm, head = network("lstm", size=3)
    values, load = 1e5 + series(), series(seed=2)
    options = {"covariates": ["load"], "inputs": ["temperature", "load", "temperature@3"], "scale": [(5, 2)]}
    model = made(
        tmp_path, lstm, head, targets=["temperature"], window=WINDOW, per_window=f"ddof{ddof}", **options
    )  # fmt: skip
    owner = []
    for end in range(WINDOW + 3, STEPS + 1):
        window = values[end - WINDOW : end]
        mean, spread = window.mean(), window.std(correction=ddof)
        before = values[end - WINDOW - 3 : end - 3]
        columns = [(window - mean) / spread, (load[end - WINDOW : end] - 5) / 2, (before - mean) / spread]
        owner.append(head(lstm(torch.stack(columns, dim=1).float().unsqueeze(0))[0][:, -1])[0].double() * spread + mean)
    told = medians(model, torch.stack([values, load], dim=1), 3)[WINDOW + 2 :, :, 0]
    torch.testing.assert_close(told - 1e5, torch.stack(owner) - 1e5, rtol=0, atol=1e-2)  # told as float32 of 1e5
    same = medians(model, torch.stack([values - 1e5, load], dim=1), 3)[WINDOW + 2 :, :, 0]
    torch.testing.assert_close(same, torch.stack(owner) - 1e5, rtol=0, atol=1e-5)
    flat = torch.cat([torch.full((1, WINDOW + 3, 1), 0.1), torch.ones(1, WINDOW + 3, 1)], dim=2).double()
    assert bool(model.forecast(model.context(model.advance(model.initial_state(1), flat).state), 1).isfinite().all())


@torch.inference_mode()
def test_points_fed_back_stay_in_the_units_of_the_last_window(tmp_path: Path) -> None:
    lstm, head = network("gru", outputs=1)
    values = series(60)
    model = made(tmp_path, lstm, head, rollout=4, window=WINDOW, per_window="ddof1")
    mean, spread = values[-WINDOW:].mean(), values[-WINDOW:].std()
    window, owner = ((values[-WINDOW:] - mean) / spread).float(), []
    for _ in range(4):
        point = head(lstm(window.view(1, -1, 1))[0][:, -1])[0, 0]
        owner.append(point.double() * spread + mean)
        window = torch.cat([window[1:], point.view(1)])
    torch.testing.assert_close(medians(model, values.view(-1, 1), 4)[-1, :, 0], torch.stack(owner), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_gates_are_those_of_the_scaled_window(tmp_path: Path) -> None:
    lstm, head = network("gru", outputs=1)
    values = series(WINDOW + 5)
    own = made(tmp_path, lstm, head, window=WINDOW, per_window="ddof1")
    window = values[-WINDOW:]
    fixed = made(tmp_path, lstm, head, name="fixed", window=WINDOW, scale=[(window.mean().item(), window.std().item())])
    told, expected = (
        model.advance(model.initial_state(1), values.view(1, -1, 1)).gates(0, len(values)) for model in (own, fixed)
    )
    torch.testing.assert_close(told.values, expected.values, rtol=0, atol=1e-6)


def test_windows_that_cannot_be_scaled_by_themselves(tmp_path: Path) -> None:
    lstm, head = network("gru", outputs=1)
    for options, message in (
        ({"stateful": True, "per_window": "ddof0"}, "per_window: ddof0 needs a window of 1 or more"),
        ({"window": 1, "per_window": "ddof1"}, "per_window: ddof1 needs a window of 2 or more"),
        ({"window": 5, "per_window": "ddof0", "causal": True}, "and no causal scales"),
        ({"window": 5, "per_window": "ddof2"}, "per_window: expected one of"),
        (
            {"window": 5, "per_window": "ddof0", "inputs": ["value@1"]},
            "needs every target among the inputs, without a lag",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            made(tmp_path, lstm, head, **options)


def test_a_key_that_came_later_changes_no_earlier_model(tmp_path: Path) -> None:
    lstm, head = network("gru", outputs=1)
    config = made(tmp_path, lstm, head, window=5).config
    assert "per_window" not in config.to_dict()
    assert ImportedConfig.from_dict(config.to_dict()) == config
    scaled = made(tmp_path, lstm, head, name="other", window=5, per_window="ddof0").config
    assert scaled.to_dict()["per_window"] == "ddof0"
    assert ImportedConfig.from_dict(scaled.to_dict()) == scaled
