"""Accuracy on published protocols: python bench/accuracy.py ett --data FOLDER.

Download the data sets yourself (docs/accuracy.md says from where) and leave the files in FOLDER unchanged. Each command
trains a model on the rows before the first cut-off, then streams every series once through the server's own code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from rich.console import Console

from statecast.model import StreamingModel, bundled_models, load_model
from statecast.model.data import Findings, Panel, Series
from statecast.model.evaluation import step_table, summary_table
from statecast.model.evaluation.run import Evaluation, Request, evaluate_model
from statecast.model.training.defaults import Wishes
from statecast.model.training.module import Recipe
from statecast.model.training.run import make_model


@dataclass(frozen=True)
class Task:
    """A data set and its protocol.

    Attributes:
        read: Reads the panel from a folder.
        trained_rows: Rows of each series to train on; a negative number leaves out that many at the end.
        horizon: The model's horizon, in steps.
        validation_rows: Training rows held back for validation.
        updates: Most updates of the weights.
        asked: The protocol.
        steps: Steps ahead whose errors are printed one by one.
    """

    read: Callable[[Path], Panel]
    trained_rows: int
    horizon: int
    validation_rows: int
    updates: int
    asked: Request
    steps: tuple[int, ...] = ()


def _panel(columns: pd.DataFrame, start: str, frequency: str) -> Panel:
    """Return a panel with one series per column, whose name is its category so that the model can learn its traits."""
    begin = pd.Timestamp(start).value
    values = {str(name): column.to_numpy(float)[:, None] for name, column in columns.items()}
    series = [Series(name, begin, each, (name,)) for name, each in values.items()]
    return Panel(tuple(series), ("y",), (), ("series",), frequency, Findings())


def _read(folder: Path, *names: str) -> pd.DataFrame:
    """Read the first of these files that exists."""
    there = [folder / name for name in names if (folder / name).exists()]
    if not there:
        raise click.UsageError(f"--data: there is no {' or '.join(names)} in {folder}")
    return pd.read_csv(there[0])


def _ett(folder: Path) -> Panel:
    files = [_read(folder, f"ETTh{number}.csv").iloc[:, 1:].add_prefix(f"{number} ") for number in (1, 2)]
    return _panel(pd.concat(files, axis=1), "2016-07-01", "h")


def _eia(folder: Path) -> Panel:
    return _panel(_read(folder, "demand.csv", "demand.csv.gz").iloc[:, 1:], "2015-07-02", "h")


def _speed(folder: Path) -> Panel:
    # The file has no times; according to its authors' paper it begins on this day.
    return _panel(_read(folder, "los_speed.csv", "los_speed.csv.gz"), "2012-03-01", "5min")


def _taxi(folder: Path) -> Panel:
    values = _read(folder, "nyc_taxi.csv", "realKnownCause__nyc_taxi.csv")[["value"]]
    return _panel(values, "2014-07-01", "30min")


TASKS = {
    "ett": Task(_ett, -3360, 168, 3360, 2000, Request(168, 20, 168, -3360, (24,)), (1, 24, 168)),
    "eia": Task(_eia, -3360, 168, 3360, 1500, Request(168, 20, 168, -3360, (168,)), (1, 24, 168)),
    "speed": Task(_speed, 1440, 36, 288, 1500, Request(36, 46, 12, 1440, (288,)), (1, 12, 36)),
    "taxi": Task(_taxi, 5000, 5, 672, 1500, Request(5, 5316, 1, 5000, (336,)), (1, 5)),
}


@click.group()
def main() -> None:
    """Train on public data sets and print how good the forecasts are."""


def _command(name: str, task: Task) -> None:
    @main.command(name)
    @click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
    @click.option("--models", type=click.Path(file_okay=False, path_type=Path), default="models", show_default=True)
    @click.option("--updates", default=task.updates, show_default=True)
    @click.option("--learning-rate", default=Recipe.learning_rate, show_default=True)
    @click.option("--dropout", default=Recipe.dropout, show_default=True)
    @click.option("--hidden-size", default=Wishes.hidden_size, show_default=True)
    @click.option("--refit/--no-refit", default=True, show_default=True)
    @click.option("--trained", type=click.Path(exists=True, path_type=Path), help="A model's folder, to train none.")
    @click.option("--output", type=click.Path(file_okay=False, path_type=Path))
    @click.option("--threads", default=2, show_default=True)
    def run(
        data: Path, models: Path, trained: Path | None, output: Path | None, threads: int, **options: float
    ) -> None:
        torch.set_num_threads(threads)
        panel = task.read(data)
        if trained is None:
            trained = _train(name, task, panel, models, options)
        _tell(task, evaluate_model(load_model(trained), panel, task.asked), output)


def _train(name: str, task: Task, panel: Panel, models: Path, options: dict[str, float]) -> Path:
    rows = min(series.rows for series in panel.series)
    seen = panel.until(rows=task.trained_rows % rows)
    wishes = Wishes(horizon=task.horizon, hidden_size=int(options["hidden_size"]))
    recipe = Recipe(updates=int(options["updates"]), learning_rate=options["learning_rate"], dropout=options["dropout"])
    refit = bool(options["refit"])
    made = make_model(
        seen, name, models, wishes, recipe, validation_rows=task.validation_rows, refit=refit, say=click.echo
    )
    click.echo(f"{name} is in {made.folder}")
    return made.folder


def _tell(task: Task, done: Evaluation, output: Path | None) -> None:
    console = Console(width=160)
    console.print(summary_table(done.report))
    console.print(step_table(done.report))
    for row in done.report.rows:
        errors = ", ".join(f"{step}: {row.scores.mae_by_step[step - 1]:.4g}" for step in task.steps)
        click.echo(f"{row.scores.name}: MAE at steps {errors}")
    for forecasts in done.forecasts:
        middle = [each[..., forecasts.levels.index(0.5)] for each in forecasts.quantiles]
        misses = np.abs(np.stack(middle) - done.outcomes.values)
        shares = misses.sum((0, 1)) / np.abs(done.outcomes.values).sum((0, 1))
        shown = ", ".join(f"{step}: {shares[step - 1]:.2%}" for step in task.steps)
        click.echo(f"{forecasts.name}: sum of errors over sum of values at steps {shown}")
    if output:
        done.write(output)


for _name, _task in TASKS.items():
    _command(_name, _task)


@main.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=bundled_models() / "base" / "2")
@click.option("--series", default=20, show_default=True)
@click.option("--rows", default=101_000, show_default=True)
@click.option("--threads", default=2, show_default=True)
def endless(model: Path, series: int, rows: int, threads: int) -> None:
    """Check that accuracy does not fade: compare early and late windows of long synthetic series."""
    torch.set_num_threads(threads)
    forecaster = load_model(model)
    panel = _long_series(series, rows)
    for first in (1000, rows - 1000):
        scores = _early_or_late(forecaster, panel, first)
        click.echo(f"around step {first:,}: {scores}")


def _early_or_late(forecaster: StreamingModel, panel: Panel, first: int) -> str:
    asked = Request(horizon=24, windows=40, step=24, first_cutoff=first - 480, seasons=(24,))
    done = evaluate_model(forecaster, panel.until(rows=first + 520), asked)
    scores = done.report.rows[0].scores
    each = np.array([one.sql for one in scores.series])
    noise = each.std() / np.sqrt(len(each))
    naive = done.report.rows[1].scores.sql
    bands = ", ".join(f"{band.stated:.0%} holds {band.overall:.1%}" for band in scores.coverage)
    return f"SQL {scores.sql:.4f} +- {noise:.4f} (seasonal naive {naive:.4f}); {bands}"


def _long_series(count: int, rows: int) -> Panel:
    """Return series with daily and weekly patterns and autocorrelated noise."""
    rng = np.random.default_rng(1)
    steps = np.arange(rows)
    series = []
    for index in range(count):
        shape = np.sin(2 * np.pi * (steps / 24 + rng.random())) + 0.5 * np.sin(4 * np.pi * (steps / 24 + rng.random()))
        week = 0.5 * np.sin(2 * np.pi * (steps / 168 + rng.random()))
        noise = rng.normal(0, 0.3, rows)
        for at in range(1, rows):
            noise[at] += 0.7 * noise[at - 1]
        values = 50 + 10 * (shape + week + noise)
        series.append(Series(str(index), None, values[:, None]))
    return Panel(tuple(series), ("y",), (), (), "", Findings())


if __name__ == "__main__":
    main()
