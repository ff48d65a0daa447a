"""The command that forecasts a file without a server: statecast forecast."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from statecast.service.cli.config_file import config_option
from statecast.service.cli.data_options import data_options, read_data
from statecast.service.cli.table_files import PICTURES, TABLES, NewFile, shown_times, write_table
from statecast.service.cli.training import Progress, columns_of, models_option, threads_option

if TYPE_CHECKING:
    import pandas as pd

    from statecast.model.evaluation.ahead import Ahead

MOST_PANELS = 12
PAST_HORIZONS = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@click.command()
@click.argument("model")
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option(what="options")
@models_option
@data_options
@click.option(
    "--horizon", type=click.IntRange(min=1), help="Steps ahead; by default the model's horizon, but 64 for base."
)
@click.option("--output", type=NewFile(TABLES), required=True, help="File to write: .csv or .parquet.")
@click.option("--plot", type=NewFile(PICTURES), help="Picture to write of the first 12 series: .png, .pdf or .svg.")
@threads_option
def forecast(
    model: str, data: Path, models: Path, output: Path, plot: Path | None, threads: int | None, **options: Any
) -> None:
    """Forecast every series of DATA from its last value, with MODEL and without a server.

    MODEL is a name, name:version, or a model's folder. The output has a row for each series and step, and a column for
    each quantile, such as q0.5. Rows of DATA after a series' last value tell the covariates of the steps ahead.

    Each option is also an environment variable (such as STATECAST_FORECAST_HORIZON) and a key of the file that
    --config names (such as horizon).
    """
    import torch

    from statecast.model import ModelError, usual_horizon
    from statecast.model.evaluation.ahead import forecast_ahead
    from statecast.model.evaluation.run import find_model

    if threads:
        torch.set_num_threads(threads)
    progress = Progress()
    try:
        forecaster = find_model(model, models)
        panel = read_data(data, columns_of(forecaster.config, options))
        horizon = options["horizon"] or usual_horizon(forecaster.config)
        ahead = forecast_ahead(forecaster, panel, horizon, lambda done, of: progress("series forecast", done, of))
        write_table(
            _table(ahead, "unique_id" if options["wide"] else options["id"] or "unique_id", options["time"]), output
        )
        if plot:
            _plot(ahead, plot)
    except (ModelError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if ahead.left_out:
        click.echo(f"{ahead.left_out} of {len(panel.series)} series left out: no value of some target")
    click.echo(f"forecasts of {len(ahead.panel.series)} series, {horizon} steps each, are in {output}")


def _table(ahead: "Ahead", id_column: str, time_column: str) -> "pd.DataFrame":
    """Return a long table: id, time or number of the step, and a column for each target and quantile."""
    import pandas as pd

    series, horizon, targets, levels = ahead.quantiles.shape
    names = [f"q{level:g}" for level in ahead.quantile_levels]
    if targets > 1:
        names = [f"{target}_{name}" for target in ahead.panel.targets for name in names]
    when: Any = np.tile(np.arange(1, horizon + 1), series)
    if ahead.times is not None:
        when = shown_times(ahead.times.ravel(), ahead.panel)
    key = pd.DataFrame(
        {
            id_column: np.repeat([each.unique_id for each in ahead.panel.series], horizon),
            "step" if ahead.times is None else time_column: when,
        }
    )
    return key.join(pd.DataFrame(ahead.quantiles.reshape(-1, targets * levels), columns=names))


def _plot(ahead: "Ahead", path: Path) -> None:
    """Draw the first series, each target by itself, after some of their values."""
    from statecast.client import Forecast, Version
    from statecast.client.plotting import plot_many

    horizon = ahead.quantiles.shape[1]
    forecasts, histories = [], []
    for place, series in enumerate(ahead.panel.series[:MOST_PANELS]):
        start = None
        if ahead.times is not None:
            start = _EPOCH + timedelta(microseconds=int(ahead.times[place, 0]) // 1000)
        for at, target in enumerate(ahead.panel.targets):
            name = series.unique_id if len(ahead.panel.targets) == 1 else f"{series.unique_id} {target}"
            values = ahead.quantiles[place, :, at, :, None].astype(np.float32)
            forecasts.append(
                Forecast(
                    name, Version(series.rows, 0), False, False, start, ahead.panel.frequency, (target,),
                    ahead.quantile_levels, values,
                )
            )  # fmt: skip
            histories.append(series.values[-PAST_HORIZONS * horizon :, at])
    plot_many(forecasts, histories).savefig(path, dpi=130)
