"""What the page is sent, as JSON: the view of a session, pages of sessions, models. Missing numbers are null."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statecast.model import Category
from statecast.service.engine.clock import times_after
from statecast.service.engine.standing import Standing
from statecast.service.errors import InvalidRequest
from statecast.service.models.registry import Model, Registry
from statecast.service.page.directory import Page, Row
from statecast.service.page.follower import Points, View
from statecast.service.rpc.sessions import from_summary

NS_A_MILLISECOND = 1_000_000
MOST_CELLS = 8192
"""Numbers of a part of a state that are sent; of larger ones, some units stand for all."""
MOST_SYMBOLS, SYMBOL_STEPS = 12, 24
"""Symbols of a forecast step that are sent, the likeliest first, and steps of a forecast of symbols."""
MOST_NAMES = 200
"""Values of a category that are sent."""

Seen = tuple[int, int] | None
"""The epoch and the last step that a viewer has been sent; None before the first."""


def to_json(content: Any) -> bytes:
    """Return the content as JSON, which may stand in a page as text."""
    return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def view_event(session_id: str, view: View, target: int, seen: Seen) -> bytes:
    """Return the event that tells a viewer of one target what it has not seen yet."""
    content: dict[str, Any] = {"problem": view.problem, "gone": view.is_gone, "note": view.note, "reset": False}
    standing, points = view.standing, view.points
    if standing is not None and points is not None:
        is_new = seen is None or seen[0] != view.epoch
        content |= {
            "reset": is_new,
            "step": standing.version.step,
            "tag": f"{standing.version.tag:016x}",
            "time": _milliseconds(standing.last_instant),
            "points": _points(points if is_new or seen is None else points.since(seen[1]), standing.model, target),
            "forecast": _forecast(view, standing, target),
            "memory": [_part(name, part) for name, part in view.memory.items()],
        }
        if is_new:
            content["session"] = _session(session_id, standing, target)
    return b"event: view\ndata: " + to_json(content) + b"\n\n"


def check_target(view: View, target: int) -> None:
    """Check that the session's model has a target of that number.

    Raises:
        InvalidRequest: if it has not.
    """
    targets = view.standing.model.targets if view.standing else target + 1
    if target >= targets:
        raise InvalidRequest(
            "target", f"{target} is not a target of this session; they are numbered 0 to {targets - 1}"
        )


def listing(page: Page, prefix: str, offset: int, registry: Registry) -> dict[str, Any]:
    """Return a page of sessions."""
    return {
        "prefix": prefix,
        "offset": offset,
        "total": page.total,
        "complete": page.is_complete,
        "sessions": [_row(row, registry) for row in page.rows],
    }


def model(found: Model, card: str, is_default: bool) -> dict[str, Any]:
    """Return the description of a model, with its card in Markdown."""
    config = found.config
    return {
        "name": config.name,
        "version": config.version,
        "default": is_default,
        "digest": found.digest,
        "cell": config.cell,
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "targets": config.targets,
        "covariates": config.covariates,
        "categories": [_category(each) for each in config.categories],
        "classes": len(config.classes),
        "frequency": config.frequency,
        "horizon": config.horizon,
        "levels": config.quantile_levels,
        "window": config.window,
        "state_bytes": found.forecaster.layout.nbytes,
        "adaptive": found.is_adaptive,
        "takes_missing": config.takes_missing,
        "card": card,
    }


def _row(row: Row, registry: Registry) -> dict[str, Any]:
    if row.summary is None:
        return {"id": row.session_id, "problem": row.problem}
    session = from_summary(row.summary)
    last = session.last_time.ToMilliseconds() if session.HasField("last_time") else None
    known = registry.find(session.model, session.model_version)
    return {
        "id": row.session_id,
        "problem": "" if known else "model not loaded",
        "model": session.model,
        "version": session.model_version,
        "step": session.version.step,
        "time": last,
        "zone": session.time_zone,
    }


def _session(session_id: str, standing: Standing, target: int) -> dict[str, Any]:
    config = standing.model.config
    return {
        "id": session_id,
        "model": config.name,
        "version": config.version,
        "targets": config.targets,
        "target": target,
        "levels": config.quantile_levels,
        "symbols": bool(config.classes),
        "frequency": standing.clock.frequency.alias if standing.clock else "",
        "zone": standing.zone.name,
        "categories": dict(standing.categories),
        "kept_seconds": standing.ttl_ms / 1000,
        "horizon": config.horizon,
    }


def _category(category: Category) -> dict[str, Any]:
    return {"name": category.name, "values": category.values[:MOST_NAMES], "count": len(category.values)}


def _points(points: Points, model: Model, target: int) -> dict[str, Any]:
    instants, classes = points.instants, model.config.classes
    values = points.values[:, target]
    told: dict[str, Any] = {
        "first": points.first,
        "times": None if instants is None else (instants // NS_A_MILLISECOND).tolist(),
        "values": _numbers(values, 9),
        "surprise": _numbers(points.surprise[:, target], 4),
    }
    if classes:
        return told | {"symbols": [None if np.isnan(each) else classes[int(each)] for each in values]}
    before = points.before[:, :, target]
    return told | {"before": [None if np.isnan(row).all() else _numbers(row, 7) for row in before]}


def _forecast(view: View, standing: Standing, target: int) -> dict[str, Any] | None:
    if view.forecast is None:
        return None
    values, classes = view.forecast.values[:, :, target], standing.model.config.classes
    if classes:
        return {"symbols": [_likeliest(row, classes) for row in values[:SYMBOL_STEPS]]}
    times, clock = None, standing.clock
    if clock is not None and standing.last_time is not None:
        ahead = times_after(np.array([standing.last_time]), len(values), clock.frequency)[0]
        times = [_milliseconds(clock.instant(time)) for time in ahead.tolist()]
    return {"times": times, "values": [_numbers(row, 7) for row in values]}


def _likeliest(probabilities: NDArray[np.float32], classes: Sequence[str]) -> list[Any]:
    """Return the likeliest symbols and their probabilities."""
    likeliest = np.argsort(-probabilities, kind="stable")[:MOST_SYMBOLS].tolist()
    return [[classes[each], _number(float(probabilities[each]), 4)] for each in likeliest]


def _part(name: str, part: NDArray[np.float32]) -> dict[str, Any]:
    every = -(-part.size // MOST_CELLS)
    columns = part[:, ::every]
    values = _numbers(columns.ravel(), 3)
    return {"name": name, "rows": len(part), "columns": columns.shape[1], "every": every, "values": values}


def _milliseconds(instant: int | None) -> int | None:
    return None if instant is None else instant // NS_A_MILLISECOND


def _numbers(values: NDArray[Any], digits: int) -> list[float | None]:
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if abs(value) < float("inf") else None


def error(message: str, reason: str) -> dict[str, str]:
    """Return an error."""
    return {"error": message, "reason": reason}


def server(version: str, models: Iterable[Model], default: str, caller: Mapping[str, str]) -> dict[str, Any]:
    """Return what the server is, and as whom the viewer looks at it."""
    found = [{"name": each.config.name, "version": each.config.version} for each in models]
    return {"version": version, "models": found, "default_model": default, **caller}
