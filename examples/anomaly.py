"""Anomalies in streams, found by a forecaster's surprise scores.

    .venv/bin/python examples/anomaly.py --data FOLDER

FOLDER holds series as <group>__<name>.csv (columns timestamp, value) and labels.json, which gives the `anomaly_windows`
of each file. Layout and labels are those of the Numenta Anomaly Benchmark (github.com/numenta/NAB). Every series passes
through a session of the bundled model `base`, once and in order, and the answers become scores. Nothing is trained, and
no score uses later values. docs/examples.md explains the figures.
"""

import argparse
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from time import monotonic
from typing import Any

import matplotlib
import numpy as np
from labelled import APART, BUDGET, Alarm, Array, Figures, Outcome, Series, outcome_of, read_series
from numpy.typing import NDArray

from statecast.client import Client, Forecast, StatecastError
from statecast.testing import LocalServer

# Rows of one request, and horizon of the forecast that answers it.
BLOCK = 64
# Scores are means of this many rows, because anomalies span many rows.
MEMORY = 24
# Rows that the rolling z-score compares a value with.
ROLLING = 300
# In float32, shares closer to 1 than this round to 1.
LEAST_SHARE = 1e-7
PIT, BOTH, Z, Z_MEAN = "pit", "pit+forecast", "z-score", "mean z-score"
PICTURE = Path("statecast-anomaly.png")
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Told:
    """The surprise scores of a series, as quantiles of a standard normal distribution; 0 without one.

    Attributes:
        short: Each value's place in the forecast of the step before it, [rows].
        long: Each value's place in the forecast that answered the block before, made 1 to 64 steps earlier, [rows].
    """

    short: Array
    long: Array


def stream(client: Client, all_series: Sequence[Series]) -> dict[str, Told]:
    """Stream all series in parallel, each through its own session, and return their scores by name.

    Raises:
        StatecastError: If a request fails; the error of the first one.
    """
    run = uuid.uuid4().hex[:8]
    sessions = [client.session(f"{each.name}-{run}", "base", time_to_live=3600) for each in all_series]
    by_id = {session.id: each for session, each in zip(sessions, all_series, strict=True)}
    told = {each.name: Told(np.zeros(len(each.values)), np.zeros(len(each.values))) for each in all_series}
    before: dict[str, Forecast] = {}

    def blocks() -> Iterator[tuple[Any, Array]]:
        for start in range(0, max(len(each.values) for each in all_series), BLOCK):
            for session, each in zip(sessions, all_series, strict=True):
                if start < len(each.values):
                    yield session, each.values[start : start + BLOCK]

    for session, answer in client.stream(blocks(), horizon=BLOCK, timeout_seconds=60):
        if isinstance(answer, StatecastError):
            raise answer
        if not isinstance(answer, Forecast) or answer.pit is None:
            continue
        series = by_id[session.id]
        rows = slice(answer.version.step - len(answer.pit), answer.version.step)
        told[series.name].short[rows] = of_pit(answer.pit[:, 0])
        if session.id in before:
            told[series.name].long[rows] = of_forecast(before[session.id], series.values[rows])
        before[session.id] = answer
    return told


def of_pit(pit: NDArray[np.float32]) -> Array:
    """Turn probabilities into quantiles of a standard normal distribution, [rows], and NaN into 0."""
    shares = np.nan_to_num(pit.astype(np.float64), nan=0.5).clip(LEAST_SHARE, 1 - LEAST_SHARE)
    return np.array([_NORMAL.inv_cdf(share) for share in shares])


def of_forecast(forecast: Forecast, values: Array) -> Array:
    """Score values, [rows], by their place in a forecast's first steps, as `of_pit` does.

    Interpolates linearly between quantiles, and extrapolates beyond the outermost ones.
    """
    quantiles = forecast.values[: len(values), :, 0].astype(np.float64)
    scores = np.array([_NORMAL.inv_cdf(level) for level in forecast.quantile_levels])
    rows, total = np.arange(len(values)), np.zeros(len(values))
    # The place from below and from above differs where quantiles are equal.
    for below, at_ties in (((quantiles < values[:, None]).sum(1), 0.0), ((quantiles <= values[:, None]).sum(1), 1.0)):
        above = below.clip(1, len(scores) - 1)
        low, high = quantiles[rows, above - 1], quantiles[rows, above]
        share = np.divide(values - low, high - low, out=np.full(len(values), at_ties), where=high > low)
        total += (scores[above - 1] + (scores[above] - scores[above - 1]) * share) / 2
    furthest = -_NORMAL.inv_cdf(LEAST_SHARE)
    return total.clip(-furthest, furthest)


def deviation(normal: Array) -> Array:
    """Return the deviation of the mean of the last 24 rows from its average so far, in standard deviations, [rows]."""
    mean = _last(normal, MEMORY)
    average, square = _last(mean, len(mean)), _last(mean**2, len(mean))
    deviations: Array = np.abs(mean - average) / np.sqrt(np.maximum(square - average**2, 1e-6))
    return deviations


def z_scores(values: Array) -> Array:
    """Return each value less the mean of the 300 before it, in their standard deviations, [rows]; 0 for the first."""
    centred = values - values[0]
    mean = np.append(0.0, _last(centred, ROLLING)[:-1])
    square = np.append(0.0, _last(centred**2, ROLLING)[:-1])
    # After 300 equal values the standard deviation is 0, and any other value would get an infinite score.
    least = 1e-3 * np.sqrt(_last(centred**2, len(values)))
    deviations = np.sqrt(np.maximum(square - mean**2, 0))
    z: Array = (centred - mean) / np.maximum(np.maximum(deviations, least), 1e-9)
    return z


def _last(values: Array, rows: int) -> Array:
    """Return means of the last `rows` rows, or of all rows so far where there are fewer, [rows]."""
    sums, ends = np.append(0.0, np.cumsum(values)), np.arange(1, len(values) + 1)
    starts = np.maximum(ends - rows, 0)
    means: Array = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def scores_of(series: Series, told: Told) -> dict[str, Array]:
    """Return all scores of a series, [rows] each."""
    z = z_scores(series.values)
    short = deviation(told.short)
    return {PIT: short, BOTH: short + deviation(told.long), Z: np.abs(z), Z_MEAN: np.abs(_last(z, MEMORY))}


def report(all_series: Sequence[Series], outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """Yield the lines of the report."""
    width = max(24, *(len(each.name) for each in all_series))
    yield f"alarm: a peak of a score, more than {APART} rows from a higher one, after the first 15 % (at most 750 rows)"
    yield f"for each score: alarms in a labelled window of the {BUDGET} highest, and windows found of those there are"
    yield f"{'':{width}}" + "".join(f"  {name:>12}" for name in outcomes)
    for each in all_series:
        figures = [outcome.per_series[each.name] for outcome in outcomes.values()]
        yield f"{each.name:{width}}" + "".join(f"  {_fractions(of):>12}" for of in figures)
    yield f"{'total':{width}}" + "".join(f"  {_fractions(outcome.total):>12}" for outcome in outcomes.values())
    figures_of = {
        "precision": [outcome.total.precision for outcome in outcomes.values()],
        "recall": [outcome.total.recall for outcome in outcomes.values()],
        "F1": [outcome.total.f1 for outcome in outcomes.values()],
        "area, any threshold": [outcome.area for outcome in outcomes.values()],
    }
    for title, row in figures_of.items():
        yield f"{title:{width}}" + "".join(f"  {figure:>12.3f}" for figure in row)
    inside = sum(last - first + 1 for each in all_series for first, last in each.windows)
    rows = sum(len(each.values) - each.probation for each in all_series)
    yield f"of {rows:,} rows {inside / rows:.1%} lie in a window: the precision of alarms at random"


def _fractions(figures: Figures) -> str:
    return f"{figures.right}/{figures.alarms} {figures.found}/{figures.windows}"


def draw(
    all_series: Sequence[Series],
    scores: Mapping[str, Mapping[str, Array]],
    outcomes: Mapping[str, Outcome],
    path: Path,
) -> None:
    """Draw the best, the middling and the worst series of `pit+forecast`, each with its score and alarms."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    outcome = outcomes[BOTH]
    ranked = sorted(all_series, key=lambda each: -outcome.per_series[each.name].f1)
    chosen = {"best": ranked[0], "middling": ranked[len(ranked) // 2], "worst": ranked[-1]}
    figure, panels = plt.subplots(
        6, figsize=(13, 11), height_ratios=[2, 1] * 3, layout="constrained", gridspec_kw={"hspace": 0.02}
    )
    for (which, series), (above, below) in zip(chosen.items(), panels.reshape(3, 2), strict=True):
        figures, score = outcome.per_series[series.name], scores[series.name][BOTH]
        pauses = np.diff(series.times, append=series.times[-1:])
        gaps = pauses > 24 * np.median(pauses)
        above.set_title(
            f"{which}: {series.name}, {figures.right} of {figures.alarms} alarms right, "
            f"{figures.found} of {figures.windows} windows found",
            loc="left",
            fontsize=10,
        )
        for panel, line, color in ((above, series.values, "0.3"), (below, score, "tab:blue")):
            panel.plot(series.times, np.where(gaps, np.nan, line), color=color, linewidth=0.6)
            _mark(panel, series, outcome.alarms[series.name][:BUDGET], line)
        others = series.times[[alarm.row for alarm in outcomes[Z_MEAN].alarms[series.name][:BUDGET]]]
        bottom = above.get_xaxis_transform()
        above.scatter(
            others, [0.05] * len(others), s=30, marker="^", color="black", transform=bottom, label=f"{Z_MEAN} alarm"
        )
        above.tick_params(labelbottom=False)
        below.set_ylim(0, 1.15 * score[series.probation :].max())
        below.set_ylabel("score")
    keys = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(keys.values(), keys.keys(), loc="outside upper right", ncols=5, fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _mark(panel: Any, series: Series, alarms: Sequence[Alarm], line: Array) -> None:
    """Shade the labelled windows and the rows without alarms, and mark each alarm with a dot."""
    times = series.times
    panel.axvspan(times[0], times[series.probation], color="0.93", label="no alarms yet")
    for first, last in series.windows:
        panel.axvspan(times[first], times[last], color="tab:orange", alpha=0.25, linewidth=0, label="labelled")
    for right, color, label in ((True, "tab:green", "alarm in a window"), (False, "tab:red", "false alarm")):
        rows = [alarm.row for alarm in alarms if (alarm.window is not None) is right]
        panel.scatter(times[rows], line[rows], color=color, s=22, zorder=3, label=label)
    panel.set_xlim(times[0], times[-1])
    panel.margins(y=0.12)


def run(folder: Path, target: str | None = None, picture: Path | None = None) -> dict[str, Outcome]:
    """Stream a folder's series through the server at `target`, or through a new one, and judge every score."""
    all_series = read_series(folder)
    with ExitStack() as stack:
        client = stack.enter_context(Client(target or stack.enter_context(LocalServer()).target))
        began = monotonic()
        told = stream(client, all_series)
    rows = sum(len(each.values) for each in all_series)
    print(f"{len(all_series)} series, {rows:,} observations streamed in {monotonic() - began:.0f} s\n")
    scores = {each.name: scores_of(each, told[each.name]) for each in all_series}
    outcomes = {
        name: outcome_of(all_series, {each.name: scores[each.name][name] for each in all_series})
        for name in (PIT, BOTH, Z, Z_MEAN)
    }
    print(*report(all_series, outcomes), sep="\n")
    if picture:
        draw(all_series, scores, outcomes, picture)
    return outcomes


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description="Find anomalies by how surprised a forecaster is.")
    parser.add_argument("--data", type=Path, required=True, help="folder of series, with labels.json")
    parser.add_argument("--target", help="host:port of a server that runs; by default one is started")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw to")
    arguments = parser.parse_args()
    run(arguments.data, arguments.target, arguments.picture)
    print(f"picture: {arguments.picture}")


if __name__ == "__main__":
    main()
