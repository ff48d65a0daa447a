"""HTML of results for notebooks: self-contained, readable on light and dark pages."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._connection import Connection
from .types import Forecast, ModelInfo, Version

_COLOR = "#3b8fd9"
_WIDTH, _HEIGHT, _LEFT, _BELOW = 560, 150, 58, 20
_MOST_ROWS, _MOST_COLUMNS = 6, 7
_TABLE = "border-collapse:collapse;color:inherit;font:inherit"
_CARD = "font:13px/1.5 system-ui,sans-serif;max-width:640px"
_CELL = "padding:1px 14px 1px 0;text-align:left;background:none"


def forecast_html(forecast: Forecast) -> str:
    """Return a chart of the forecast, and its first steps as a table."""
    facts = [f"after {forecast.version.step:,} steps", f"horizon {forecast.horizon}"]
    if forecast.start_time is not None:
        facts.append(f"from {forecast.start_time}, every {forecast.frequency}")
    charts = [
        _chart(forecast, target, name if len(forecast.targets) > 1 else "")
        for target, name in enumerate(forecast.targets)
        if forecast.horizon
    ]
    return _card(f"Forecast of {forecast.session_id}", facts, "".join(charts) + _steps(forecast))


def session_html(session_id: str, model: tuple[str, str], version: Version | None) -> str:
    """Return the card of a session."""
    name, model_version = model
    rows = [
        ("model", name or "the server's default, or the session's own"),
        ("model version", model_version or "the newest, or the session's own"),
        ("steps", "nothing sent yet" if version is None else f"{version.step:,}"),
        ("version", "unknown" if version is None else str(version)),
    ]
    return _card(f"Session {session_id}", (), _table(rows))


def client_html(kind: str, connection: Connection, timeout_seconds: float) -> str:
    """Return the card of a client. It shows no credential."""
    rows = [
        ("encrypted", "no" if connection.tls is None else "yes"),
        ("time for each request", f"{timeout_seconds:g} s"),
    ]
    return _card(f"{kind} of {connection.target}", (), _table(rows))


def model_html(model: ModelInfo) -> str:
    """Return the card of a model."""
    rows = [
        ("targets", ", ".join(model.targets)),
        ("horizon", f"{model.horizon} steps"),
        ("frequency", model.frequency or "none: it counts positions"),
        ("quantile levels", ", ".join(f"{level:g}" for level in model.quantile_levels)),
        ("symbols", ", ".join(model.classes)),
        ("covariates", ", ".join(model.covariates)),
        ("categories", "; ".join(f"{name}: {', '.join(values)}" for name, values in model.categories.items())),
        ("network", f"{model.cell}, {model.layers} x {model.hidden_size}"),
        ("intervals", "adapt online" if model.adaptive else ""),
        ("state of a session", f"{model.state_bytes:,} bytes, {model.window} steps"),
        ("digest", model.digest),
    ]
    return _card(f"Model {model.name}", [f"version {model.version}"], _table(row for row in rows if row[1]))


def _card(title: str, facts: Sequence[str], body: str) -> str:
    shown = f' <span style="opacity:.65">{escape(", ".join(facts))}</span>' if facts else ""
    return f'<div style="{_CARD}"><div style="margin-bottom:4px"><b>{escape(title)}</b>{shown}</div>{body}</div>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = [
        f'<tr style="background:none"><td style="{_CELL};opacity:.65;white-space:nowrap">{escape(name)}</td>'
        f'<td style="{_CELL};overflow-wrap:anywhere">{escape(value)}</td></tr>'
        for name, value in rows
    ]
    return f'<table style="{_TABLE}">{"".join(lines)}</table>'


def _steps(forecast: Forecast) -> str:
    """Return a table of the first steps: their number, and the value of each level or symbol, or of some of these."""
    names = forecast.classes or [f"{level:g}" for level in forecast.quantile_levels]
    shown = np.unique(np.linspace(0, len(names) - 1, min(len(names), _MOST_COLUMNS)).round().astype(int)).tolist()
    several = len(forecast.targets) > 1
    head = [f"{target} {names[at]}" if several else names[at] for target in forecast.targets for at in shown]
    values = forecast.values[:_MOST_ROWS, shown].swapaxes(1, 2).reshape(-1, len(head))
    cell = "padding:1px 10px;text-align:right;background:none"
    lines = [
        f'<tr style="background:none"><td style="{cell};opacity:.65">{step}</td>'
        + "".join(f'<td style="{cell}">{value:.4g}</td>' for value in row)
        + "</tr>"
        for step, row in enumerate(values.tolist(), 1)
    ]
    titles = "".join(f'<th style="{cell}">{escape(name)}</th>' for name in ("step", *head))
    rest = f"and {forecast.horizon - _MOST_ROWS} more steps" if forecast.horizon > _MOST_ROWS else ""
    if len(shown) < len(names):
        rest += f"{', ' * bool(rest)}{len(shown)} of {len(names)} columns"
    table = f'<table style="{_TABLE}"><tr style="background:none">{titles}</tr>{"".join(lines)}</table>'
    return f'<div style="overflow-x:auto">{table}</div><div style="opacity:.65">{rest}</div>'


def _chart(forecast: Forecast, target: int, title: str) -> str:
    """Return an SVG of one target: bands between opposite quantiles, and the middle; or a line for each symbol."""
    values = forecast.values[:, :, target]
    if not forecast.classes:
        values = values[:, np.argsort(forecast.quantile_levels)]
    known = values[np.isfinite(values)]
    if not known.size:
        return '<div style="opacity:.65">No value so far, so no forecast.</div>'
    low, high = (0.0, 1.0) if forecast.classes else (float(known.min()), float(known.max()))
    spread = high - low or max(abs(high), 1.0)
    middle = (low + high) / 2
    heights = (_HEIGHT - 16) * (0.5 - (np.nan_to_num(values, nan=middle) - middle) / spread) + 8
    steps = np.arange(forecast.horizon) + 0.5 * (forecast.horizon == 1)
    across = _LEFT + steps * (_WIDTH - _LEFT - 8) / max(1, forecast.horizon - 1)
    drawn = _lines(across, heights) if forecast.classes else _fan(across, heights)
    labels = [
        _label(_LEFT - 6, 12, f"{middle + spread / 2:.4g}", "end"),
        _label(_LEFT - 6, _HEIGHT - 4, f"{middle - spread / 2:.4g}", "end"),
        _label(_LEFT, _HEIGHT + 15, "1", "start"),
        _label(_WIDTH - 8, _HEIGHT + 15, f"{forecast.horizon} step{'s' * (forecast.horizon > 1)} ahead", "end"),
        _label((_LEFT + _WIDTH) // 2, 12, title, "middle"),
    ]
    named = escape(f"Forecast of {forecast.session_id} {title}".strip(), quote=True)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _BELOW}" width="{_WIDTH}" style="max-width:100%" role="img" '
        f'aria-label="{named}"><path d="M{_LEFT} 4V{_HEIGHT}H{_WIDTH}" fill="none" stroke="currentColor" opacity=".3"/>'
        f"{drawn}{''.join(labels)}</svg>"
    )


def _fan(across: NDArray[Any], heights: NDArray[Any]) -> str:
    levels = heights.shape[1]
    bands = [
        f'<path d="M{_points(across, heights[:, low])}L{_points(across[::-1], heights[::-1, levels - 1 - low])}Z" '
        f'fill="{_COLOR}" opacity="{0.6 / (levels // 2 + 1):.2f}"/>'
        for low in range(levels // 2)
    ]
    middle = heights[:, levels // 2 : levels // 2 + levels % 2]
    return "".join(bands) + _lines(across, middle)


def _lines(across: NDArray[Any], heights: NDArray[Any]) -> str:
    width = len(heights.T)
    if len(across) == 1:
        return "".join(f'<circle cx="{across[0]:.1f}" cy="{each:.1f}" r="3" fill="{_COLOR}"/>' for each in heights[0])
    return "".join(
        f'<path d="M{_points(across, column)}" fill="none" stroke="{_COLOR}" stroke-width="2" '
        f'opacity="{1 - 0.7 * place / width:.2f}"/>'
        for place, column in enumerate(heights.T)
    )


def _points(across: NDArray[Any], heights: NDArray[Any]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across.tolist(), heights.tolist(), strict=True))


def _label(x: int, y: int, text: str, anchor: str) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="11" fill="currentColor" opacity=".7">'
        f"{escape(text)}</text>"
    )
