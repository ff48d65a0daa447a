"""Training from a panel to a model folder that a server can load."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.panels import panel_of, waves

from statecast.model import ConfigError, load_model, save_model
from statecast.model.data import Panel, Series
from statecast.model.errors import DataError
from statecast.model.evaluation.run import Request, evaluate_model, find_model
from statecast.model.training import run as running
from statecast.model.training.card import verdict
from statecast.model.training.defaults import Wishes
from statecast.model.training.module import Recipe
from statecast.model.training.run import Made, make_model

RECIPE = Recipe(updates=6, chunk=48, origins=4, ahead=8, validate_every=3)
WISHES = Wishes(horizon=6, lags=(12,), layers=1, hidden_size=8)


def hourly() -> Panel:
    panel = panel_of(*waves(300), frequency="h")
    series = tuple(Series(each.unique_id, each.start_ns, each.values, ("north",)) for each in panel.series)
    return replace(panel, series=series, categories=("region",))


def make(models: Path, panel: Panel | None = None, *, refit: bool = False, rows: int | None = None) -> Made:
    said: list[str] = []
    made = make_model(
        panel or hourly(), "m", models, WISHES, RECIPE, validation_rows=rows, refit=refit, say=said.append
    )
    assert said[-2 - refit].startswith("validated on ")
    assert said[-1 - refit].startswith("best after ")
    return made


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("models"))


def test_the_folder_is_a_model(made: Made) -> None:
    assert names(made.folder) == {"config.json", "model.safetensors", "metrics.json", "README.md"}
    assert made.folder.parts[-2:] == ("m", "1")
    loaded = load_model(made.folder)
    assert loaded.config == made.config
    assert loaded.config.targets == ("y",)
    trace = loaded.advance(
        loaded.initial_state(1), torch.ones(1, 3, 1, dtype=torch.float64), times=torch.zeros(1, 3, dtype=torch.int64)
    )
    assert bool(trace.state["step"] == 3)


def test_nothing_hidden_is_left(made: Made) -> None:
    assert names(made.folder.parent) == {"1"}
    assert names(made.folder.parents[1]) == {"m"}


def test_a_server_of_someone_else_may_read_it(made: Made) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.folder.iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_the_metrics_tell_how_it_was_trained_and_how_it_does(made: Made) -> None:
    metrics = json.loads((made.folder / "metrics.json").read_text())
    training = metrics["training"]
    assert (training["series"], training["rows"], training["updates"], training["seed"]) == (3, 789, 6, 0)
    assert training["best_update"] in (3, 6)
    assert training["updates_made"] == 6
    assert training["refitted_on_all_rows"] is False
    forecasters = metrics["validation"]["forecasters"]
    assert [each["name"] for each in forecasters] == ["m 1", "seasonal naive", "last value", "bundled base"]
    assert forecasters[0]["sql"] == pytest.approx(made.report.rows[0].scores.sql)
    assert metrics["validation"]["protocol"]["season"] == 12


def test_the_card_is_for_people(made: Made) -> None:
    card = (made.folder / "README.md").read_text()
    for text in (
        "# m version 1",
        "streaming LSTM forecaster of y",
        "3 series, 789 rows every h, 2024-01-01T00:00:00 to 2024-01-11T22:00:00 UTC",
        "lags 12; calendar: day, weekend; covariates: none; categories: region",
        "| seasonal naive | ",
        "adapt online",
    ):
        assert text in card
    assert "{" not in card


def test_the_next_version_is_the_next_number(tmp_path: Path) -> None:
    for taken in ("2", "10", "new", ".11"):
        (tmp_path / "m" / taken).mkdir(parents=True)
    assert make(tmp_path).config.version == "11"
    assert make(tmp_path, panel_of(*waves(300))).config.version == "12"


def test_refit_learns_from_all_rows(tmp_path: Path) -> None:
    made = make(tmp_path, refit=True, rows=60)
    training = json.loads((made.folder / "metrics.json").read_text())["training"]
    assert (training["refitted_on_all_rows"], training["rows"]) == (True, 900)
    assert "trained once more on all rows" in (made.folder / "README.md").read_text()
    assert training["updates_made"] == training["best_update"]
    assert names(tmp_path) == {"m"}


def test_what_cannot_be_trained_leaves_nothing(tmp_path: Path) -> None:
    for panel, rows, message in (
        (panel_of(*waves(11)), None, "horizon: 6 steps need series of at least 12"),
        (hourly(), 5, "validation_rows: 5 rows are fewer"),
        (hourly(), 200, "no series has 400 rows"),
    ):
        with pytest.raises(DataError, match=message):
            make(tmp_path, panel, rows=rows)
    with pytest.raises(ConfigError, match="name"):
        make_model(hourly(), "../m", tmp_path, WISHES, RECIPE)
    assert names(tmp_path) == set()


def test_nothing_is_published_of_which_nobody_knows_how_it_does(tmp_path: Path) -> None:
    blank = [np.append(values[:60], np.full(240, np.nan)) for values in waves(300)]
    with pytest.raises(DataError, match=r"validation_rows: no series has values .* in any 6 rows from row 100 on"):
        make(tmp_path, panel_of(*blank), rows=100)
    said: list[str] = []
    with pytest.raises(DataError, match="no series has two values one season"):
        make_model(panel_of(np.full(300, 5.0)), "m", tmp_path, WISHES, RECIPE, say=said.append)
    assert not said  # the error came before any training
    assert names(tmp_path) == set()
    # The other series are still validated if one ends early.
    assert np.isfinite(make(tmp_path, panel_of(blank[0], *waves(300)[1:]), rows=100).report.rows[0].scores.sql)


def test_a_target_that_ends_early_takes_no_rows_from_the_others(tmp_path: Path) -> None:
    values = np.column_stack([np.float64(each) for each in waves(4000, series=2)])
    values[300:, 1] = np.nan  # before the rows that are streamed ahead of the first window
    panel = replace(panel_of(values), targets=("y", "z"))
    said: list[str] = []
    made = make_model(panel, "m", tmp_path, WISHES, RECIPE, say=said.append)
    assert said[1] == "validated on 20 windows of 6 steps in 1 of 1 series, learned from 3,880 of 4,000 rows"
    assert "'s0 z'" in said[0]
    assert "1 series, 3,880 rows" in (made.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("end", "warning"),
    [
        (np.full(37, np.nan), "series without values near their end, validated on earlier rows: 3 ('s0', 's1', 's2')"),
        (
            np.tile([2e6, -3e6, 9.0], 13)[:37],
            "column 'y', values 30 times as far out as any before, as from a broken sensor; missing for validation: "
            "75 ('s0', row 264: 2e+06)",
        ),
    ],
    ids=["blank", "spikes"],
)
def test_a_broken_end_is_not_validated_on(tmp_path: Path, end: NDArray[np.float64], warning: str) -> None:
    said: list[str] = []
    broken = [np.append(np.float64(values[:263]), end) for values in waves(300)]
    made = make_model(panel_of(*broken), "m", tmp_path, WISHES, RECIPE, say=said.append)
    assert said[0] == f"  {warning}"
    assert warning in (made.folder / "README.md").read_text()
    # The score is that of a series that ends there; the spikes would raise it to hundreds of thousands.
    assert made.report.rows[0].scores.sql < 3
    assert made.report.counts.missing_points == 0


def test_the_bundled_model_is_beside_it(tmp_path: Path) -> None:
    values: list[NDArray[np.float64]] = [
        np.column_stack([np.float64(one), np.roll(one, 1) + 5, np.arange(len(one))]) for one in waves(300)
    ]
    panel = replace(panel_of(*values, covariates=("known",)), targets=("a", "b"))
    scores = [row.scores for row in make(tmp_path, panel).report.rows]
    assert [each.name for each in scores] == ["m 1", "seasonal naive", "last value", "bundled base"]
    asked = Request(horizon=6, windows=len(scores[0].windows), seasons=(12,), first_cutoff=-37)
    alone = evaluate_model(find_model("base", tmp_path), panel_of(*(each[:, :1] for each in values)), asked)
    assert [each.sql for each in scores[3].series[::2]] == pytest.approx(
        [each.sql for each in alone.report.rows[0].scores.series]
    )
    # The bundled model is missing because it forecasts only 1,000 steps ahead.
    far = make_model(panel_of(*waves(4100)), "far", tmp_path, replace(WISHES, horizon=1001), RECIPE, say=lambda _: None)
    assert [row.scores.name for row in far.report.rows] == ["far 1", "seasonal naive", "last value"]


def test_a_model_that_is_no_better_than_others_says_so(tmp_path: Path) -> None:
    walks = np.random.default_rng(0).normal(size=(3, 300)).cumsum(axis=1)
    made = make(tmp_path, panel_of(*walks))
    assert made.verdict.startswith("m 1 (SQL ")
    assert "does not beat last value (" in made.verdict
    assert made.verdict in (made.folder / "README.md").read_text()
    rows = made.report.rows
    for ours, theirs, said in (
        (0.5, (0.6, 0.7, 0.8), ""),
        (0.6, (0.6, 0.7, 0.8), "m 1 (SQL 0.600) does not beat seasonal naive (0.600) on the rows held back; train on "),
        (0.7, (0.65, 0.8, 0.6), "does not beat seasonal naive (0.650) and bundled base (0.600) on the rows held back; "
         "serve base instead, or train on"),
    ):  # fmt: skip
        scores = zip(rows, (ours, *theirs), strict=True)
        scored = tuple(replace(row, scores=replace(row.scores, sql=sql)) for row, sql in scores)
        told = verdict(replace(made.report, rows=scored))
        assert said in told
        assert bool(told) == bool(said)


def test_a_version_made_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(*args, **options):  # type: ignore[no-untyped-def]
        save_model(*args, **options)
        (tmp_path / "m" / "1").mkdir()
        (tmp_path / "m" / "1" / "config.json").write_text("{}")

    monkeypatch.setattr(running, "save_model", meanwhile)
    with pytest.raises(ConfigError, match="exists already"):
        make(tmp_path)
    assert names(tmp_path / "m") == {"1"}
    assert (tmp_path / "m" / "1" / "config.json").read_text() == "{}"
    # The same call does not train again, but saves the finished model.
    monkeypatch.setattr(running, "save_model", save_model)
    assert make(tmp_path).config.version == "2"
