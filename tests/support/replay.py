"""Check that a run's forecasts equal the model's own, after the values that each session had."""

from collections.abc import Iterator

import numpy as np
import torch

from statecast.model import StreamingModel
from support.checker import Finding, Verdict, Wrong
from support.history import Acked, Call, History

TOLERANCE = 1e-5


def judge_forecasts(history: History, verdict: Verdict, model: StreamingModel) -> Iterator[Finding]:
    """Compare every recorded forecast with one that the model makes here."""
    answers: dict[str, list[tuple[Call, Acked]]] = {}
    for call in history.calls:
        if (acked := call.acked) and acked.forecast is not None and acked.version:
            answers.setdefault(call.session, []).append((call, acked))
    for session, each in answers.items():
        content = verdict.contents[session]
        # An incomplete history has been reported already.
        if all(acked.version and acked.version.step <= len(content) for _, acked in each):
            yield from _compare(session, content, each, model)


def _compare(
    session: str, content: list[int], answers: list[tuple[Call, Acked]], model: StreamingModel
) -> Iterator[Finding]:
    rows = torch.tensor(content, dtype=torch.float64).reshape(1, -1, 1)
    steps = torch.tensor([acked.version.step for _, acked in answers if acked.version])
    with torch.inference_mode():
        trace = model.advance(model.initial_state(1), rows)
        context = trace.context(torch.zeros_like(steps), steps)
        expected = model.forecast(context, model.config.horizon).numpy()
    for (call, acked), right in zip(answers, expected, strict=True):
        assert acked.forecast is not None
        scale = np.nanmax(np.abs(right), initial=0.0) * TOLERANCE
        if not np.allclose(acked.forecast, right[: len(acked.forecast)], rtol=0, atol=scale, equal_nan=True):
            apart = np.nanmax(np.abs(acked.forecast - right[: len(acked.forecast)])) / (scale / TOLERANCE)
            yield Finding(session, Wrong.FORECAST, f"{acked.version}, {apart:.1e} apart ({call})")
