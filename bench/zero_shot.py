"""Zero-shot accuracy of the bundled model: python -m bench.zero_shot --data FOLDER.

Download the data sets yourself (docs/accuracy.md says from where): M4's hourly series, ETT and EIA's demand into
FOLDER, files of NAB and of the Microsoft cloud into its folders `nab` and `ms-cloud`. Sets that are absent are left
out. Every series is streamed once through the server's own code.
"""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from statecast.model import StreamingModel, bundled_models, load_model
from statecast.model.data import Findings, Panel, Series
from statecast.model.evaluation.report import Report
from statecast.model.evaluation.run import Request, evaluate_model

Values = NDArray[np.float64]
WEEK_HOURS = 168
AVERAGED_HOURS = (2, 3, 4, 6)
CLOUD_WARM_UP, CLOUD_AHEAD = 500, 24
BAND, BAND_SHARES = 0.8, (0.75, 0.85)


def panel_of(values: dict[str, Values]) -> Panel:
    """Return a panel of series without times."""
    series = tuple(Series(name, None, each[:, None]) for name, each in values.items())
    return Panel(series, ("y",), (), (), "", Findings())


def m4(model: StreamingModel, folder: Path) -> Iterator[str]:
    """Forecast the 48 hours that M4 asks for."""
    files = [folder / f"Hourly-{name}.csv" for name in ("train", "test")]
    if not all(each.exists() for each in files):
        return
    train, test = (pd.read_csv(each, index_col=0) for each in files)
    values = {name: np.append(train.loc[name].dropna(), test.loc[name].dropna()) for name in map(str, train.index)}
    report = evaluate_model(model, panel_of(values), Request(48, 1, 48, -48, (24,))).report
    for row in report.rows[:2]:
        yield f"M4 hourly, {row.scores.name}: MASE {row.scores.mase:.3f}, CRPS {row.scores.wql:.4f}"


def ett(model: StreamingModel, folder: Path) -> Iterator[str]:
    """Forecast ETT a week ahead, as fev-bench does."""
    files = [folder / f"ETTh{number}.csv" for number in (1, 2)]
    if not all(each.exists() for each in files):
        return
    columns = pd.concat([pd.read_csv(each).iloc[:, 1:].add_prefix(each.stem) for each in files], axis=1)
    values = {str(name): column.to_numpy(float) for name, column in columns.items()}
    yield _sql("ETT_1H, 168 ahead", evaluate_model(model, panel_of(values), Request(168, 20, 168, -3360, (24,))).report)


def eia(model: StreamingModel, folder: Path) -> Iterator[str]:
    """Forecast demand averaged to some hours, whose weeks are periods that few would list."""
    there = [each for each in (folder / "demand.csv", folder / "demand.csv.gz") if each.exists()]
    if not there:
        return
    columns = pd.read_csv(there[0]).iloc[:, 1:]
    for hours in AVERAGED_HOURS:
        rows = len(columns) // hours * hours
        values = {
            str(name): column.to_numpy(float)[:rows].reshape(-1, hours).mean(axis=1) for name, column in columns.items()
        }
        asked = Request(24, 20, 24, -480, (WEEK_HOURS // hours,))
        yield _sql(f"EIA, means of {hours} hours, 24 ahead", evaluate_model(model, panel_of(values), asked).report)


def cloud(model: StreamingModel, folder: Path) -> Iterator[str]:
    """Forecast each series of NAB and of the Microsoft cloud 24 ahead, from every 24th step on."""
    ratios, shares, losers = [], [], []
    for path in sorted(each for name in ("nab", "ms-cloud") for each in (folder / name).glob("*.csv")):
        values = pd.read_csv(path).select_dtypes("number").iloc[:, -1].to_numpy(float)
        warm_up = min(CLOUD_WARM_UP, len(values) // 2)
        windows = (len(values) - warm_up) // CLOUD_AHEAD
        if windows < 1 or np.ptp(values[warm_up:]) == 0:
            continue
        asked = Request(CLOUD_AHEAD, windows, CLOUD_AHEAD, warm_up, (CLOUD_AHEAD,))
        own, *naive = evaluate_model(model, panel_of({path.stem: values}), asked).report.rows
        ratios.append([own.scores.mae / each.scores.mae for each in naive])
        shares.append(next(each.overall for each in own.scores.coverage if each.stated == BAND))
        if max(ratios[-1]) > 1:
            losers.append(path.stem)
    if ratios:
        means = np.exp(np.log(ratios).mean(axis=0))
        held = np.mean([BAND_SHARES[0] <= each <= BAND_SHARES[1] for each in shares])
        yield f"{len(ratios)} series of clouds, 24 ahead: MAE {means[0]:.3f} of naive 24, {means[1]:.3f} of last value"
        yield f"it loses to either on {len(losers)}: {', '.join(losers)}"
        yield f"share of series whose 80 % band holds 75 to 85 %: {held:.0%}"


def _sql(name: str, report: Report) -> str:
    own, naive = (row.scores.sql for row in report.rows[:2])
    return f"{name}: SQL {own:.3f}, {own / naive:.3f} of seasonal naive"


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=bundled_models() / "base" / "2")
@click.option("--threads", default=2, show_default=True)
def main(data: Path, model: Path, threads: int) -> None:
    """Print how good forecasts of series are that the model has never seen."""
    torch.set_num_threads(threads)
    loaded = load_model(model)
    for told in (m4, ett, eia, cloud):
        for line in told(loaded, data):
            click.echo(line)


if __name__ == "__main__":
    main()
