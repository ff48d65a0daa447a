"""Re-encodes a session for another model: collects the raw values that are known of it, as that model takes them.

They come from the record, whose state keeps a window of them and whose entries hold the newest, or from the caller, who
must have the whole history since some version of the session.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statecast.model import least_steps_of
from statecast.service.engine.clock import Bounds, Given, place, times_up_to
from statecast.service.engine.request import Request, Upgrade
from statecast.service.engine.standing import Standing
from statecast.service.errors import InvalidRequest, PreconditionFailed
from statecast.service.models.registry import Model
from statecast.service.shared.outline import Outline
from statecast.service.store.record import Record
from statecast.service.version import START, Version, chain
from statecast.v1.reasons import Reason

Rows = NDArray[np.float64]
MOST_STEPS = 49_152
"""Most steps that a caller may send to be re-encoded."""
FEWEST_ROWS = 16
"""Fewest raw values that a state must keep, so that a new one can be made of them."""
SEND_THEM = "send all of its observations since step 0 as UpgradeSession.observations"


@dataclass(frozen=True, slots=True)
class Known:
    """The newest steps that are known of a session, and whether they are its whole history.

    Attributes:
        rows: Their targets and covariates, NaN where missing or unknown, float64 [steps, width].
        is_exact: True if nothing is unknown.
    """

    rows: Rows
    is_exact: bool


def kept_in(record: Record, outline: Outline | None) -> Known:
    """Return what a record keeps; nothing if nobody knows its model's outline."""
    step, width = record.newest.version.step, record.snapshot.width
    if outline is None:
        return Known(np.empty((0, width)), is_exact=step == 0)
    window = _window(record, outline)
    rows = np.full((len(window), width), np.nan)
    rows[:, : window.shape[1]] = window
    is_exact = outline.keeps_missing and (window.shape[1] == width or not len(window))
    rows = np.concatenate([rows, *(entry.rows for entry in record.entries)])
    if len(rows) < step and (outline.raw is None or outline.raw.rows < FEWEST_ROWS):
        return Known(rows[:0], is_exact=False)  # how many entries there are is chance
    return Known(rows, is_exact and len(rows) == step)


def _window(record: Record, outline: Outline) -> Rows:
    """Return the raw values in the snapshot's state, no more than it has taken, float64 [steps, numbers]."""
    raw = outline.raw
    if raw is None:
        return np.empty((0, record.snapshot.width))
    rows = np.frombuffer(record.snapshot.state, "<f8", raw.rows * raw.width, raw.start).reshape(raw.rows, raw.width)
    return rows[len(rows) - min(len(rows), record.snapshot.version.step) :]


def given_by(request: Request, upgrade: Upgrade, standing: Standing, width: int) -> Rows:
    """Return the observations of an UpgradeSession call [steps, width], once they are proved to be the session's.

    Args:
        request: The request with the observations.
        upgrade: Its upgrade.
        standing: The session on its new model, but with its own frequency.
        width: Numbers in each of the session's rows.

    Raises:
        InvalidRequest: if they are not all that the session has taken since that version.
    """
    since, version = upgrade.since, standing.version
    if since != START and since not in standing.lineage:
        raise InvalidRequest(
            "since",
            f"{since} is not one of the last versions of the session, which is at {version}; {SEND_THEM}",
        )
    rows = _rows_of(request, standing.model, width)
    rows, times = _placed(rows, request, standing, since)
    reached = chain(since, rows, times)
    if reached != version:
        what = "as many, but other ones" if reached.step == version.step else f"{len(rows)} time steps"
        raise InvalidRequest(
            "observations",
            f"from {since}, they lead to {reached}, but the session is at {version}: they are {what} than it has "
            "taken; send exactly its observations since then, with NaN where one was missing",
        )
    return rows


def _rows_of(request: Request, model: Model, width: int) -> Rows:
    targets, covariates = model.targets, width - model.targets
    values, given = request.values, request.covariates
    if request.target_count not in (0, targets) or values.size % targets:
        raise InvalidRequest(
            "observations.values", f"{values.size} values do not make whole time steps of {targets} targets"
        )
    steps = values.size // targets
    if steps > MOST_STEPS:
        raise InvalidRequest(
            "observations.values",
            f"{steps} time steps are more than {MOST_STEPS}; send those since a later version, or none to re-encode "
            "the values that the session keeps",
        )
    if given.size not in (0, steps * covariates):
        raise InvalidRequest(
            "observations.covariates", f"{given.size} values are not {steps} time steps of {covariates} covariates"
        )
    rows = np.full((steps, width), np.nan)
    rows[:, :targets] = values.reshape(steps, targets)
    if given.size:
        rows[:, targets:] = given.reshape(steps, covariates)
    return rows


def _placed(rows: Rows, request: Request, standing: Standing, since: Version) -> tuple[Rows, list[int] | None]:
    """Return the rows with those of missing steps, and the time of each; no times if only position counts."""
    clock, last = standing.clock, standing.last_time
    if clock is None or last is None:
        if request.start_time is not None:
            raise InvalidRequest("observations.start_time", "the session has no frequency; leave it out")
        return rows, None
    if request.start_time is None and not request.times.size:
        return rows, times_up_to(last, len(rows), clock.frequency)
    before = clock.frequency.add(last, since.step - standing.version.step) if since.step else None
    bounds = Bounds(MOST_STEPS, 0, now=0, max_ahead_ms=0)
    placed = place(rows, Given(request.start_time, request.times), before, clock, bounds)
    return placed.rows, placed.times


def joined(kept: Known, given: Rows, since: Version, step: int) -> Known:
    """Join the caller's rows since a version to those from before; the session is at `step`."""
    before = kept.rows[: max(0, since.step - (step - len(kept.rows)))]
    return Known(np.concatenate([before, given]), is_exact=since == START)


def for_model(known: Known, model: Model, outline: Outline | None, step: int) -> Rows:
    """Return the rows [steps, width] as a model takes them.

    Raises:
        PreconditionFailed: if they are too few for it, or the model refuses one.
    """
    rows, targets = known.rows, model.targets
    if len(rows) < min(step, least_steps_of(model.forecaster)):
        why = "no values that could be re-encoded" if not len(rows) else f"only {len(rows)} values, too few for {model}"
        if outline is None:
            why = "values that cannot be read, since no server with its model has noted where they are"
        raise PreconditionFailed(
            f"the session's state keeps {why}; {SEND_THEM}",
            Reason.HISTORY_NEEDED,
        )
    taken = np.full((len(rows), model.width), np.nan)
    taken[:, :targets] = rows[:, :targets]
    names = outline.covariates if outline else model.config.covariates
    if len(names) == rows.shape[1] - targets:
        for column, name in enumerate(model.config.covariates, targets):
            if name in names:
                taken[:, column] = rows[:, targets + names.index(name)]
    _check_taken(taken, model)
    return taken


def _check_taken(rows: Rows, model: Model) -> None:
    """Check that the model takes the values, as it would if they were observed now."""
    config, targets = model.config, rows[:, : model.targets]
    problem = ""
    if not config.takes_missing and bool(np.isnan(rows).any()):
        row, column = map(int, np.argwhere(np.isnan(rows))[0])
        name = (*config.targets, *config.covariates)[column]
        problem = f"refuses missing values, and {name} is unknown {len(rows) - row} steps ago"
    elif config.classes and bool(((targets < 0) | (targets >= len(config.classes)) | (targets % 1 > 0)).any()):
        problem = f"takes the numbers of {len(config.classes)} classes alone"
    elif bool((targets <= config.lower_bound).any()):
        problem = f"takes values greater than {config.lower_bound:g} alone, and the session has others"
    if problem:
        raise PreconditionFailed(f"{model} {problem}; choose another model", Reason.UNSUITABLE_MODEL)
