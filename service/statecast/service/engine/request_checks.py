"""Checks a request against its session's model; an error names the wrong field."""

import numpy as np
from numpy.typing import NDArray

from statecast.model import Frequency
from statecast.service.engine.request import Opening, Request
from statecast.service.engine.standing import Standing
from statecast.service.errors import LONGEST_QUOTE, InvalidRequest, PreconditionFailed, quoted
from statecast.service.models.registry import Model
from statecast.v1.reasons import Reason

Rows = NDArray[np.float64]


def rows_of(model: Model, request: Request, max_steps: int) -> Rows:
    """Return the request's observations [time, targets and covariates], NaN where unknown.

    Raises:
        InvalidRequest: if they are not whole time steps, exceed `max_steps`, or are values that the model refuses.
    """
    values, targets = request.values, model.targets
    if values.size == model.width == 1 >= request.target_count and not (
        request.covariates.size or not model.takes_plain_steps
    ):
        return values.reshape(1, 1)  # the usual case
    _check_width(model, request)
    steps = values.size // targets
    if steps > max_steps:
        raise InvalidRequest(
            "observations.values",
            f"{steps} time steps are more than the {max_steps} that one request may append; split them over several",
        )
    _check_symbols(model, values)
    _check_quantities(model, values)
    _check_covariates(model, request.covariates, steps, "observations.covariates")
    if not model.config.takes_missing:
        _check_known(model, request, steps)
    if model.width == targets:
        return values.reshape(steps, targets)
    rows = np.full((steps, model.width), np.nan)
    rows[:, :targets] = values.reshape(steps, targets)
    if request.covariates.size:
        rows[:, targets:] = request.covariates.reshape(steps, model.width - targets)
    return rows


def _check_width(model: Model, request: Request) -> None:
    targets, names = model.targets, ", ".join(model.config.targets)
    if request.target_count not in (0, targets):
        raise InvalidRequest(
            "observations.targets", f"{request.target_count} values a time step, but {model} has {targets}: {names}"
        )
    if request.values.size % targets:
        raise InvalidRequest(
            "observations.values",
            f"{request.values.size} values do not make whole time steps of {targets} targets ({names})",
        )


def check_forecast(model: Model, request: Request) -> None:
    """Check that the model can make the forecast that the request wants.

    Raises:
        InvalidRequest: if the horizon, a level or the future covariates do not fit the model.
    """
    if request.horizon > model.config.horizon:
        raise InvalidRequest(
            "horizon", f"{request.horizon} is beyond the {model.config.horizon} steps that {model} forecasts"
        )
    if request.quantile_levels:
        _check_levels(model, request)
    if request.future_covariates.size:
        _check_covariates(model, request.future_covariates, request.horizon, "future_covariates")
    if model.config.needs_future:
        _check_future(model, request)


def check_gap(model: Model, request: Request, steps: int, frequency: str) -> None:
    """Check that a model that refuses missing values is sent no rows with a gap in time, which makes `steps` of them.

    Raises:
        InvalidRequest: if there is a gap.
    """
    gap = steps - request.values.size // model.targets
    if gap and not model.config.takes_missing:
        raise InvalidRequest(
            "observations.times" if request.times.size else "observations.start_time",
            f"leaves a gap of {gap} steps of {frequency!r}, and {model} refuses missing values; send the "
            "rows between, or import the model so that it carries the last value forward",
        )


def own_frequency(model: Model, opening: Opening) -> Frequency | None:
    """Return the frequency that a session of the model is opened with; None if it is absent, or the model's own.

    Raises:
        InvalidRequest: if the model has another.
    """
    if opening.frequency is None or model.frequency is None:
        return opening.frequency
    if not model.frequency.is_same(opening.frequency):
        raise InvalidRequest(
            f"{opening.where}.frequency",
            f"{opening.frequency.alias!r}, but {model} has steps of {model.frequency.alias!r}; leave the frequency "
            "out, or use a model without one",
        )
    return None


def check_categories(model: Model, opening: Opening) -> None:
    """Check that the model has the session's categories; their values are free.

    Raises:
        InvalidRequest: if it lacks one.
    """
    if not opening.categories:
        return
    there = [category.name for category in model.config.categories]
    for name in opening.categories:
        if name not in there:
            raise InvalidRequest(
                f"{opening.where}.categories[{quoted(name)}]",
                f"{model} has no such category; " + (f"it has: {', '.join(there)}" if there else "it has none"),
            )


def check_same(standing: Standing, opening: Opening, session_id: str) -> None:
    """Refuse to open an existing session with another model, frequency or categories.

    Raises:
        PreconditionFailed: if its own are others.
    """
    config = standing.model.config
    alias = standing.binding.alias if standing.binding else ""
    is_named = opening.model in ("", config.name) and opening.model_version in ("", config.version)
    if not is_named or opening.alias not in ("", alias):
        wanted = opening.model_version or (opening.alias and f"alias {opening.alias}")
        raise PreconditionFailed(
            f"session {quoted(session_id)} runs on {standing.model}; set {opening.where}.upgrade to move it to "
            f"{quoted(opening.model or config.name)} {wanted[:LONGEST_QUOTE]}".rstrip(),
            Reason.OTHER_MODEL,
        )
    _check_same_frequency(standing, opening, session_id)
    if opening.categories != standing.categories:  # with which it was opened, on another model perhaps
        check_categories(standing.model, opening)
    for name, value in opening.categories.items():
        if standing.categories.get(name) != value:
            own = quoted(standing.categories[name]) if name in standing.categories else "none"
            raise PreconditionFailed(
                f"{opening.where}.categories: the {quoted(name)} of session {quoted(session_id)} is {own}; close it "
                f"first to open it with {quoted(value)}",
                Reason.OTHER_CATEGORIES,
            )


def _check_same_frequency(standing: Standing, opening: Opening, session_id: str) -> None:
    frequency, asked = standing.frequency, opening.frequency
    if asked is None or (frequency is not None and frequency.is_same(asked)):
        return
    own = f"has steps of {frequency.alias!r}" if frequency else "has no frequency"
    whose = "its model has them" if standing.model.frequency else f"close it first to open it with {asked.alias!r}"
    raise PreconditionFailed(
        f"{opening.where}.frequency: session {quoted(session_id)} {own}; {whose}", Reason.OTHER_FREQUENCY
    )


def _check_levels(model: Model, request: Request) -> None:
    known = model.config.quantile_levels
    if not known and request.quantile_levels:
        raise InvalidRequest("quantile_levels", f"{model} forecasts probabilities of classes, which have no quantiles")
    for position, level in enumerate(request.quantile_levels):
        if not known[0] <= level <= known[-1]:
            raise InvalidRequest(
                f"quantile_levels[{position}]",
                f"{level:g} is outside {known[0]:g}..{known[-1]:g}, the range of {model}",
            )


def _check_symbols(model: Model, values: Rows) -> None:
    if not (count := len(model.config.classes)):
        return
    # NaN, a missing symbol, compares as false.
    wrong = np.flatnonzero((values < 0) | (values >= count) | (np.trunc(values) < values))
    if wrong.size:
        raise InvalidRequest(
            f"observations.values[{wrong[0]}]",
            f"{values[wrong[0]]:g} is not the number of one of the classes of {model}: 0 to {count - 1}, or NaN",
        )


def _check_quantities(model: Model, values: Rows) -> None:
    bound = model.config.lower_bound
    if bound == -np.inf:
        return
    wrong = np.flatnonzero(values <= bound)  # NaN compares as false
    if wrong.size:
        row, target = divmod(int(wrong[0]), model.targets)
        raise InvalidRequest(
            f"observations.values[{wrong[0]}]",
            f"{values[wrong[0]]:g} for {model.config.targets[target]} in row {row} is not greater than {bound:g}, as "
            f"{model} needs for its logarithm",
        )


def _check_known(model: Model, request: Request, steps: int) -> None:
    """Check that no target and no covariate is missing, for a model that refuses missing values."""
    config = model.config
    parts = [("values", request.values, config.targets), ("covariates", request.covariates, config.covariates)]
    for field, given, names in parts:
        if steps and names and not given.size:
            raise InvalidRequest(f"observations.{field}", f"missing: {model} needs {', '.join(names)} in each row")
        missing = np.flatnonzero(np.isnan(given))
        if missing.size:
            row, column = divmod(int(missing[0]), len(names))
            raise InvalidRequest(
                f"observations.{field}[{missing[0]}]",
                f"NaN for {names[column]} in row {row}, but {model} refuses missing values; send a number, or import "
                "the model so that it carries the last value forward",
            )


def _check_future(model: Model, request: Request) -> None:
    """Check that the covariates ahead are known, as far as points are fed back beside them."""
    names, given = model.config.covariates, request.future_covariates
    needed = given[: (request.horizon - 1) * len(names)]
    if request.horizon > 1 and not given.size:
        raise InvalidRequest(
            "future_covariates",
            f"missing: {model} needs {', '.join(names)} of the steps ahead to forecast more than one",
        )
    missing = np.flatnonzero(np.isnan(needed))
    if missing.size:
        step, column = divmod(int(missing[0]), len(names))
        raise InvalidRequest(
            f"future_covariates[{missing[0]}]",
            f"NaN for {names[column]} {step + 1} steps ahead, but {model} refuses missing values; send a number",
        )


def _check_covariates(model: Model, covariates: Rows, steps: int, field: str) -> None:
    """Check that the covariates are as many as `steps` need; none at all are valid, too, and mean unknown."""
    names = model.config.covariates
    if not covariates.size or covariates.size == steps * len(names):
        return
    if not names:
        raise InvalidRequest(field, f"{model} has no covariates")
    raise InvalidRequest(
        field, f"{covariates.size} values are not {steps} time steps of {len(names)} covariates ({', '.join(names)})"
    )
