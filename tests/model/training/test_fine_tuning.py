"""A training may begin with the weights of another model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from support.panels import panel_of, waves

from statecast.model import Category, ConfigError, Forecaster, ModelConfig, bundled_models, load_model, save_model
from statecast.model.contract import StreamingModel
from statecast.model.data import Panel
from statecast.model.evaluation.run import find_model
from statecast.model.training.defaults import Wishes
from statecast.model.training.fine_tuning import configure_like, start_from, trained_horizon
from statecast.model.training.module import Recipe
from statecast.model.training.run import Made, make_model

CONFIG = ModelConfig(
    name="old", version="7", targets=("y",), horizon=50, hidden_size=8, head_size=8, window=48, lags=(), periods=2,
    multiples=2, quantile_levels=(0.1, 0.5, 0.9), checked_steps=(1, 8), adaptation_rate=0.1,
)  # fmt: skip
RECIPE = Recipe(updates=4, chunk=48, origins=4, ahead=4, validate_every=2, learning_rate=1e-6, dropout=0.0)


@pytest.fixture
def start() -> Forecaster:
    torch.manual_seed(5)
    return Forecaster(CONFIG).eval()


def make(start: Forecaster, folder: Path, panel: Panel, *, refit: bool = False, recipe: Recipe = RECIPE) -> Made:
    return make_model(
        panel, "new", folder, Wishes(horizon=6), recipe, start=start, refit=refit, work_dir=folder / "work",
        say=lambda _: None,
    )  # fmt: skip


@pytest.mark.parametrize("refit", [False, True])
def test_training_begins_with_the_weights(tmp_path: Path, start: Forecaster, *, refit: bool) -> None:
    made = make(start, tmp_path, panel_of(*waves(300), frequency="h"), refit=refit)
    after = load_model(made.folder)
    assert isinstance(after, Forecaster)
    before = start.state_dict()
    for name, weights in after.state_dict().items():  # the rate is so low that they hardly move
        torch.testing.assert_close(weights, before[name], atol=1e-4, rtol=0)
    assert after.digest != start.digest
    assert made.report.protocol.horizon == 6


@pytest.mark.parametrize("refit", [False, True])
def test_the_weights_are_kept_if_no_update_betters_them(tmp_path: Path, start: Forecaster, *, refit: bool) -> None:
    said: list[str] = []
    made = make_model(
        panel_of(*waves(300)), "new", tmp_path, Wishes(horizon=6), replace(RECIPE, learning_rate=100.0), start=start,
        refit=refit, work_dir=tmp_path / "work", say=said.append,
    )  # fmt: skip
    after = load_model(made.folder)
    assert isinstance(after, Forecaster)
    for name, weights in after.state_dict().items():
        torch.testing.assert_close(weights, start.state_dict()[name], atol=0, rtol=0)
    told = json.loads((made.folder / "metrics.json").read_text())["training"]
    assert (told["best_update"], told["refitted_on_all_rows"]) == (0, False)
    assert "no update did better than the weights of old, which are kept" in said


def test_the_model_is_as_the_other_but_for_its_name_and_frequency(tmp_path: Path, start: Forecaster) -> None:
    made = make(start, tmp_path, panel_of(*waves(300), frequency="h"))
    assert made.config == replace(CONFIG, name="new", version="1", frequency="h")
    assert json.loads((made.folder / "metrics.json").read_text())["training"]["began_with"] == "old 7"
    assert "4 updates from the weights of old 7 in " in (made.folder / "README.md").read_text()
    assert load_model(made.folder).layout.parts == start.layout.parts  # so its sessions can be upgraded exactly


def test_another_start_is_another_training(tmp_path: Path, start: Forecaster) -> None:
    panel = panel_of(*waves(300))
    first = make(start, tmp_path, panel)
    with torch.no_grad():
        start.head.trust.add_(1.0)
    second = make(start, tmp_path, panel)
    one, other = (load_model(made.folder) for made in (first, second))
    assert isinstance(one, Forecaster)
    assert isinstance(other, Forecaster)
    assert float(other.head.trust) == pytest.approx(float(one.head.trust) + 1.0, abs=1e-3)


def test_base_can_be_the_start(tmp_path: Path) -> None:
    base = start_from(find_model("base", bundled_models()))
    made = make(base, tmp_path, panel_of(*waves(300)))
    assert (made.config.horizon, made.config.periods) == (1000, 4)
    assert [row.scores.name for row in made.report.rows] == ["new 1", "seasonal naive", "last value", "bundled base"]


def with_names(panel: Panel) -> Panel:
    series = tuple(replace(each, categories=("north",)) for each in panel.series)
    return replace(panel, series=series, categories=("region",))


PANEL = panel_of(*waves(60))
REGIONS = (Category("region", ("a",)),)


@pytest.mark.parametrize(
    ("config", "panel", "message"),
    [
        (
            CONFIG,
            replace(PANEL, targets=("a", "b")),
            r"old forecasts 1 target\(s\), but the data have 2 \(a, b\)",
        ),
        (CONFIG, replace(PANEL, covariates=("price",)), "old takes no covariates, but the data have covariates price;"),
        (CONFIG, with_names(PANEL), "from: old takes no categories, but the data have categories region"),
        (replace(CONFIG, categories=REGIONS), PANEL, "takes categories region, but the data have no categories"),
        (replace(CONFIG, frequency="D"), panel_of(*waves(60), frequency="h"), "steps of 'D', but the data have 'h'"),
        (replace(CONFIG, frequency="D"), PANEL, "steps of 'D', but the data have 'no times'"),
    ],
)
def test_data_that_do_not_fit_are_refused(config: ModelConfig, panel: Panel, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure_like(config, panel, "new", "1", Wishes())


def test_a_horizon_beyond_the_other_models_is_refused() -> None:
    with pytest.raises(ConfigError, match="horizon: 51 steps are more than the 50 of old; choose fewer"):
        trained_horizon(CONFIG, panel_of(*waves(300)), Wishes(horizon=51))
    assert trained_horizon(CONFIG, panel_of(*waves(300)), Wishes(horizon=50)) == 50
    assert trained_horizon(replace(CONFIG, horizon=5, checked_steps=(1,)), panel_of(*waves(300)), Wishes()) == 5


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = type("Other", (), {"config": CONFIG})()
    with pytest.raises(ConfigError, match="from: old 7 is neither bundled nor a model of numbers that"):
        start_from(cast("StreamingModel", other))
    save_model(Forecaster(CONFIG), tmp_path / "old" / "7")
    assert start_from(find_model("old:7", tmp_path)).config == CONFIG
