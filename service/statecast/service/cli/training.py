"""Commands that train and evaluate models: statecast train | evaluate."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from statecast.service.cli.config_file import config_option
from statecast.service.cli.data_options import data_options, read_data
from statecast.service.cli.table_files import TABLES, NewFile, shown_times, write_table

if TYPE_CHECKING:
    import pandas as pd

    from statecast.model import Description
    from statecast.model.evaluation.run import Evaluation

MISSING_EXTRA = "needs the extra 'train' (docs/installation.md)"
MISSING_ETS = "--auto-ets needs statsforecast, from the extra 'bench' (docs/installation.md)"
# Width of the tables if the output is not a terminal.
TABLE_COLUMNS = 120
SECONDS_A_LINE = 60.0
FIXED_BY_START = ("lag", "cell", "layers", "hidden_size", "calendar")
LONGEST_ROWS = 8
"""Longer numbers of rows are dates without dashes, such as 20240501."""

models_option = click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    default="models",
    show_default=True,
    help="Folder of models, as for `statecast serve --models`.",
)
threads_option = click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default all cores.")


class FirstCutoff(click.ParamType[int | float | str]):
    """Rows before the first cut-off, a share of them, or a time."""

    name = "rows|share|time"
    takes = (int, str, date)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float | str:
        """Return a number of rows, a share between 0 and 1, or the text of a time."""
        text = str(value).strip()
        if re.fullmatch(r"[-+]?\d+", text) and len(text) < LONGEST_ROWS:
            return int(text)
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text):
            return float(match[1]) / 100
        try:
            datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{value!r} is no number of rows, no share such as 80%, and no time such as 2024-05-01.", param, ctx
            )
        return text


def _guarded(work: Callable[[], None]) -> None:
    """Run `work`; report errors in the data or the options as messages, without a traceback."""
    try:
        from statecast.model import ModelError
        from statecast.model.training.train import Interrupted
    except ImportError as error:
        raise click.ClickException(f"{MISSING_EXTRA} ({error})") from error
    try:
        work()
    except (ModelError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except Interrupted as stop:
        raise click.ClickException(f"{stop}; the same command resumes the training") from stop


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option(what="options")
@click.option("--model", required=True, help="Name of the model; training makes its next version.")
@models_option
@data_options
@click.option(
    "--from",
    metavar="MODEL",
    help="Begin with the weights of this model, such as base: for few rows. Name, name:version or folder.",
)
@click.option("--horizon", type=click.IntRange(min=1), help="Longest forecast in steps; by default about a season.")
@click.option(
    "--lag",
    type=click.IntRange(min=1),
    multiple=True,
    help="Season in steps; repeat for several. By default taken from the frequency or the data.",
)
@click.option(
    "--cell", type=click.Choice(("lstm", "gru", "rnn")), default="lstm", show_default=True, help="Recurrent cell."
)
@click.option("--layers", type=click.IntRange(1, 8), default=2, show_default=True, help="Recurrent layers.")
@click.option(
    "--hidden-size",
    type=click.IntRange(1, 2048),
    default=128,
    show_default=True,
    help="Size of each layer's hidden state.",
)
@click.option("--calendar/--no-calendar", default=True, show_default=True, help="Let the model see the calendar.")
@click.option("--adapt/--no-adapt", default=True, show_default=True, help="Let intervals adapt online.")
@click.option(
    "--validation-rows",
    type=click.IntRange(min=1),
    help="Rows held back from the end of each series to choose the weights; by default an eighth, at most 20 horizons.",
)
@click.option("--refit", is_flag=True, help="Train once more on all rows, including those held back.")
@click.option(
    "--updates", type=click.IntRange(min=1), default=3000, show_default=True, help="Most updates of the weights."
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=1e-6, max=1.0),
    help="Peak learning rate; by default 0.002, with --from 0.0003.",
)
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoints while training runs; by default in the user's cache.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the weights and of the order of the data."
)
@threads_option
def train(data: Path, model: str, models: Path, threads: int | None, **options: Any) -> None:
    """Train a model on DATA, a CSV or Parquet file in long format: unique_id, ds, y.

    A running `statecast serve` with the same --models folder picks up the model. Ctrl-C stops the training; the same
    command resumes it.

    Each option is also an environment variable (such as STATECAST_TRAIN_HORIZON) and a key of the file that --config
    names (such as horizon).
    """

    def work() -> None:
        import torch

        from statecast.model.evaluation import summary_table
        from statecast.model.evaluation.run import find_model
        from statecast.model.training.defaults import Wishes
        from statecast.model.training.fine_tuning import LEARNING_RATE, start_from
        from statecast.model.training.module import Recipe
        from statecast.model.training.run import make_model

        if threads:
            torch.set_num_threads(threads)
        start = None if options["from"] is None else start_from(find_model(options["from"], models))
        if start is not None:
            _check_left_out(options["from"])
            options["learning_rate"] = options["learning_rate"] or LEARNING_RATE
        panel = read_data(data, options)
        wished = {**options, "lags": options["lag"] or None}
        wishes = Wishes(**{key.name: wished[key.name] for key in fields(Wishes) if key.name in wished})
        recipe = Recipe(**{key.name: options[key.name] for key in fields(Recipe) if options.get(key.name) is not None})
        made = make_model(
            panel, model, models, wishes, recipe, start=start,
            validation_rows=options["validation_rows"], refit=options["refit"],
            work_dir=options["work_dir"], say=click.echo,
        )  # fmt: skip
        _show(summary_table(made.report))
        if made.verdict:
            click.echo(made.verdict)
        click.echo(f"{made.config.name} version {made.config.version} is in {made.folder}")

    _guarded(work)


def _check_left_out(start: str) -> None:
    """Refuse options that say what the model to begin with has already."""
    context = click.get_current_context()
    for name in FIXED_BY_START:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                f"--{name.replace('_', '-')} does not go with --from: the weights of {start} fit its own; leave one out"
            )


def _show(table: Any) -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=TABLE_COLUMNS)).print(table)


@click.command()
@click.argument("model")
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option(what="options")
@models_option
@data_options
@click.option(
    "--horizon", type=click.IntRange(min=1), help="Steps ahead; by default the model's horizon, but 64 for base."
)
@click.option("--windows", type=click.IntRange(min=1), default=10, show_default=True, help="Forecasts per series.")
@click.option("--step", type=click.IntRange(min=1), help="Steps from one cut-off to the next; by default the horizon.")
@click.option(
    "--first-cutoff",
    type=FirstCutoff(),
    help="First cut-off: rows before it (a negative number counts from the end), a share of them such as 80%, or the "
    "time of the first step to forecast, such as 2024-05-01.",
)
@click.option(
    "--season",
    type=click.IntRange(min=1),
    multiple=True,
    help="Season of the naive forecast, in steps; by default the data's, else the model's. Repeat for further naive "
    "forecasts; the first one also scales the scores.",
)
@click.option("--auto-ets", is_flag=True, help="Compare with AutoETS too; about half a second per forecast.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for report.json and the pictures."
)
@click.option(
    "--forecasts", type=NewFile(TABLES), help="File of all forecasts and outcomes to write: .csv or .parquet."
)
@threads_option
def evaluate(
    model: str, data: Path, models: Path, auto_ets: bool, output: Path | None, forecasts: Path | None,
    threads: int | None, **options: Any,
) -> None:  # fmt: skip
    """Stream DATA through MODEL and score its forecasts against naive ones.

    MODEL is a name, name:version, or a model's folder. Each series passes once through the code that serves.

    Each option is also an environment variable (such as STATECAST_EVALUATE_HORIZON) and a key of the file that
    --config names (such as horizon).
    """

    def work() -> None:
        import torch

        from statecast.model.evaluation import has_auto_ets, step_table, summary_table
        from statecast.model.evaluation.run import Request, evaluate_model, find_model

        if threads:
            torch.set_num_threads(threads)
        if auto_ets and not has_auto_ets():
            raise click.UsageError(MISSING_ETS)
        if output:  # a folder that cannot be made fails before the work
            output.mkdir(parents=True, exist_ok=True)
        forecaster = find_model(model, models)
        panel = read_data(data, columns_of(forecaster.config, options))
        asked = {key: options[key] for key in ("horizon", "windows", "step")}
        cutoff = options["first_cutoff"]
        asked["first_cutoff" if isinstance(cutoff, int) else "begins"] = cutoff
        request = Request(**asked, seasons=options["season"], auto_ets=auto_ets)
        done = evaluate_model(forecaster, panel, request, progress=Progress())
        if done.left_out:
            why = "too short, or no values before the first cut-off"
            click.echo(f"{done.left_out} of {len(panel.series)} series left out: {why}")
        _show(summary_table(done.report))
        _show(step_table(done.report))
        if output:
            done.write(output)
            click.echo(f"report.json, fans.png, reliability.png and steps.png are in {output}")
        if forecasts:
            table = _forecast_table(
                done, "unique_id" if options["wide"] else options["id"] or "unique_id", options["time"]
            )
            write_table(table, forecasts)
            click.echo(f"{len(table):,} forecasts are in {forecasts}")

    _guarded(work)


def _forecast_table(done: "Evaluation", id_column: str, time_column: str) -> "pd.DataFrame":
    """Return a long table: forecaster, id, cut-off, step, time if there is one, outcomes, and quantiles."""
    import pandas as pd

    rows, panel = done.rows, done.panel
    columns: dict[str, Any] = {"forecaster": rows.forecaster, id_column: rows.series, "cutoff": rows.cutoff}
    if rows.seen_until is not None:
        columns["cutoff"] = shown_times(rows.seen_until, panel)
    columns["step"] = rows.step
    if rows.time is not None:
        columns[time_column] = shown_times(rows.time, panel)
    for at, target in enumerate(panel.targets):
        columns[target] = rows.outcomes[:, at]
    for at, target in enumerate(panel.targets):
        start = f"{target}_" if len(panel.targets) > 1 else ""
        columns |= {f"{start}q{level:g}": rows.quantiles[:, at, place] for place, level in enumerate(rows.levels)}
    return pd.DataFrame(columns)


def columns_of(config: "Description", options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with the columns that the model was trained on unless others are named."""
    named = click.get_current_context().get_parameter_source("target") is not ParameterSource.DEFAULT
    # A single target may have a different name in each file.
    targets = options["target"] if named or len(config.targets) == 1 else config.targets
    if options["wide"]:
        return options
    return {
        **options,
        "target": targets,
        "covariate": options["covariate"] or config.covariates,
        "category": options["category"] or tuple(category.name for category in config.categories),
        "frequency": options["frequency"] or config.frequency or None,
    }


class Progress:
    """Prints progress: on a terminal continuously, in a log once a minute."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, what: str, done: int, of: int) -> None:
        """Print how many of how many are done."""
        if sys.stderr.isatty():
            click.echo(f"\r{what}: {done} of {of}", nl=done == of, err=True)
        elif time.monotonic() - self._told_at >= SECONDS_A_LINE:
            self._told_at = time.monotonic()
            click.echo(f"{what}: {done} of {of}", err=True)
