"""Networks as others might have trained them, and the models that are imported from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from statecast.model import Future, Imported, import_torch, load_model

STEPS, WINDOW, HIDDEN = 1000, 12, 16
CENTRE, SCALE = 21.3, 4.2
RECURRENT: dict[str, Callable[[int], nn.LSTM | nn.GRU | nn.RNN]] = {
    "lstm": lambda size: nn.LSTM(size, HIDDEN, 2, batch_first=True),
    "lstm without bias": lambda size: nn.LSTM(size, HIDDEN, bias=False, batch_first=True),
    "projected lstm": lambda size: nn.LSTM(size, HIDDEN, 2, proj_size=5, batch_first=True),
    "gru": lambda size: nn.GRU(size, HIDDEN, 3, dropout=0.2, batch_first=True),
    "tanh rnn": lambda size: nn.RNN(size, HIDDEN, batch_first=True),
    "relu rnn": lambda size: nn.RNN(size, HIDDEN, 2, nonlinearity="relu", batch_first=True),
}


def network(cell: str, size: int = 1, outputs: int = 3) -> tuple[nn.LSTM | nn.GRU | nn.RNN, nn.Sequential]:
    """Return recurrent layers and a head, as somebody might have trained them."""
    torch.manual_seed(0)
    recurrent = RECURRENT[cell](size).eval()
    width = getattr(recurrent, "proj_size", 0) or HIDDEN
    return recurrent, nn.Sequential(
        nn.ReLU(), nn.Linear(width, 7), nn.Tanh(), nn.Dropout(), nn.Linear(7, outputs)
    ).eval()


def series(steps: int = STEPS, seed: int = 1) -> Tensor:
    """Return temperatures, float64 [steps]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(steps, generator=generator, dtype=torch.float64)
    return CENTRE + SCALE * (torch.arange(steps) / 9).sin() + noise


def made(folder: Path, lstm: Any, head: nn.Module, **choices: Any) -> Imported:
    model = load_model(import_torch(lstm, head, models=folder, **{"name": "pump", **choices}))
    assert isinstance(model, Imported)
    return model


def medians(model: Imported, rows: Tensor, horizon: int, future: Future | None = None) -> Tensor:
    """Return the middle quantiles after each observation of one session [T, X], float64 [T, horizon, D]."""
    trace = model.advance(model.initial_state(1), rows.unsqueeze(0))
    steps = torch.arange(1, len(rows) + 1)
    told = model.forecast(trace.context(torch.zeros_like(steps), steps), horizon, future)
    return told[:, :, told.shape[2] // 2].double()
