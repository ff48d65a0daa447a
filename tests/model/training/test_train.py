"""Training learns, resumes after an interruption, and stops early."""

import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from support.panels import panel_of, waves

from statecast.model import Forecaster, ModelConfig
from statecast.model.data import Panel
from statecast.model.errors import DataError
from statecast.model.evaluation.run import Request, evaluate_model
from statecast.model.training import train as training
from statecast.model.training.held_back import hold_back
from statecast.model.training.module import Recipe
from statecast.model.training.train import Interrupted, Trained, train

QUICK = Recipe(updates=24, chunk=48, origins=4, ahead=8, validate_every=12)
# The season has noise, so that averaging past seasons helps.
PANEL = panel_of(*waves(500, noise=0.8))
CONFIG = ModelConfig(
    name="m", version="1", targets=("y",), horizon=12, hidden_size=12, head_size=12, window=48, lags=(12,),
    quantile_levels=(0.1, 0.3, 0.5, 0.7, 0.9), checked_steps=(1, 4, 12), adaptation_rate=0.1,
)  # fmt: skip


def run(work: Path, recipe: Recipe = QUICK, panel: Panel = PANEL) -> Trained:
    held = hold_back(panel, CONFIG.horizon)
    held = replace(held, protocol=replace(held.protocol, season=12))
    return train(held.learned, CONFIG, recipe, work, validation=held)


def weights(trained: Trained) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in trained.forecaster.parameters()])


class Interrupting(Callback):
    """A callback that raises KeyboardInterrupt once, after a given update."""

    def __init__(self, update: int) -> None:
        self.update = update

    def on_train_batch_end(self, trainer, *_: object) -> None:  # type: ignore[no-untyped-def]
        if trainer.global_step == self.update:
            raise KeyboardInterrupt


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    made = training._trainer

    def arrange(update: int) -> None:
        def trainer(*args, **options):  # type: ignore[no-untyped-def]
            trainer = made(*args, **options)
            trainer.callbacks.insert(0, Interrupting(update))  # type: ignore[attr-defined]
            return trainer

        monkeypatch.setattr(training, "_trainer", trainer)

    return arrange


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    recipe = Recipe(updates=240, chunk=60, origins=4, ahead=8, validate_every=80)
    return run(tmp_path_factory.mktemp("learned") / "work", recipe)


@pytest.mark.slow
def test_it_learns(learned: Trained) -> None:
    assert learned.updates == 240
    assert learned.best_update in (80, 160, 240)
    rows = evaluate_model(learned.forecaster, PANEL, Request(windows=8, seasons=(12,))).report.rows
    assert rows[0].relative() < 0.85
    assert rows[0].relative("mase") < 0.9


@pytest.mark.slow
def test_what_was_learned_does_not_fade(learned: Trained) -> None:
    long = panel_of(*waves(21_000, noise=0.8, series=4, seed=7))

    def sql(cutoff: int) -> float:
        asked = Request(horizon=12, windows=60, step=12, first_cutoff=cutoff, seasons=(12,))
        return float(evaluate_model(learned.forecaster, long, asked).report.rows[0].scores.sql)

    assert sql(20_000) == pytest.approx(sql(1_000), rel=0.05)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, same, other = (run(tmp_path / str(at), replace(QUICK, seed=seed)) for at, seed in enumerate((3, 3, 4)))
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.slow
def test_the_model_adapts_although_training_does_not(learned: Trained) -> None:
    assert learned.forecaster.config == CONFIG
    assert not learned.forecaster.training
    assert "stretches" in learned.forecaster.initial_state(1)


def test_ctrl_c_stops_and_the_same_call_goes_on(tmp_path: Path, interrupt: Callable[[int], None]) -> None:
    interrupt(17)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped after 17 updates"):
        run(tmp_path / "work")
    assert signal.getsignal(signal.SIGINT) is handler
    interrupt(20)
    with pytest.raises(Interrupted, match="stopped after 20 updates"):
        run(tmp_path / "work")
    interrupt(-1)
    assert run(tmp_path / "work").updates == QUICK.updates


def test_it_goes_on_from_the_newest_checkpoint(tmp_path: Path, interrupt: Callable[[int], None]) -> None:
    interrupt(5)
    with pytest.raises(Interrupted):
        run(tmp_path / "work")
    interrupt(20)
    with pytest.raises(Interrupted):
        run(tmp_path / "work")
    (folder,) = (tmp_path / "work").iterdir()
    interrupted, last = folder / "interrupted.ckpt", folder / "last.ckpt"
    os.utime(last, (1000, 1000))
    assert training._newest_checkpoint(folder) == interrupted
    # This is the state after a resumed training that was killed after the next validation.
    interrupted.write_bytes(b"of long ago")
    os.utime(interrupted, (900, 900))
    assert training._newest_checkpoint(folder) == last
    interrupt(-1)
    assert run(tmp_path / "work").updates == QUICK.updates


def test_another_training_begins_from_the_start(tmp_path: Path, interrupt: Callable[[int], None]) -> None:
    interrupt(5)
    with pytest.raises(Interrupted):
        run(tmp_path / "work")
    interrupt(6)
    with pytest.raises(Interrupted, match="stopped after 6 updates"):
        run(tmp_path / "work", replace(QUICK, seed=1))
    # Each recipe has its own checkpoints, so neither overwrites those of the other.
    interrupt(7)
    with pytest.raises(Interrupted, match="stopped after 7 updates"):
        run(tmp_path / "work")
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_a_damaged_checkpoint_is_named(tmp_path: Path, interrupt: Callable[[int], None]) -> None:
    interrupt(5)
    with pytest.raises(Interrupted):
        run(tmp_path / "work")
    (checkpoint,) = (tmp_path / "work").glob("*/interrupted.ckpt")
    for damage in (b"", b"rubbish", checkpoint.read_bytes()[:-9], pickle.dumps(print)):
        checkpoint.write_bytes(damage)
        with pytest.raises(DataError, match=r"interrupted\.ckpt is not a checkpoint .*; delete it"):
            run(tmp_path / "work")


def test_whichever_version_it_becomes_the_training_is_the_same() -> None:
    model = Forecaster(CONFIG)
    own = training._fingerprint(PANEL, CONFIG, QUICK, model)
    assert training._fingerprint(PANEL, replace(CONFIG, version="2"), QUICK, model) == own
    moved = panel_of(*waves(500, noise=0.8, seed=1))
    assert training._fingerprint(moved, CONFIG, QUICK, model) != own


def test_a_checkpoint_of_a_release_with_other_weights_is_not_resumed() -> None:
    model, other = Forecaster(CONFIG), Forecaster(replace(CONFIG, head_size=CONFIG.head_size + 1))
    own = training._fingerprint(PANEL, CONFIG, QUICK, model)
    assert training._fingerprint(PANEL, CONFIG, QUICK, other) != own


def test_it_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([1.0, 0.5, 0.6, 0.7, 0.4, 0.3])
    monkeypatch.setattr(training, "_judge", lambda *_: lambda _: next(scores))
    trained = run(tmp_path / "work", replace(QUICK, updates=60, validate_every=4, patience=2))
    assert (trained.best_update, trained.updates) == (8, 16)


@pytest.mark.parametrize(("updates", "best"), [(1, 1), (5, 5), (13, 13), (25, 24)])
def test_the_last_updates_are_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, updates: int, best: int
) -> None:
    scores = iter(range(10, 0, -1))
    monkeypatch.setattr(training, "_judge", lambda *_: lambda _: float(next(scores)))
    trained = run(tmp_path / "work", replace(QUICK, updates=updates))
    assert (trained.best_update, trained.updates) == (best, updates)


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    trained = train(PANEL, CONFIG, QUICK, tmp_path / "work")
    assert (trained.best_update, trained.updates) == (24, 24)


def test_a_series_that_never_varies_can_be_trained_on(tmp_path: Path) -> None:
    trained = run(tmp_path / "work", replace(QUICK, updates=2), panel_of(np.full(300, 4.0), *waves(300, series=1)))
    assert bool(weights(trained).isfinite().all())


def test_covariates_are_scaled_by_what_was_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ups = np.resize([190.0, 195.0, 200.0, 205.0, 210.0], 300)
    prices = np.column_stack([rng.normal(size=300), ups, np.full(300, 7.0), np.full(300, np.nan)])
    config = replace(CONFIG, covariates=("price", "flat", "none"))
    panel = panel_of(prices, covariates=config.covariates)
    expected = [[200.0, 7.0, 0.0], [float(ups.std()), 1.0, 1.0]]
    for broken in (200.0, 9999.0):  # one value of a broken sensor makes no difference
        prices[152, 1] = broken
        known = train(panel, config, replace(QUICK, updates=2), tmp_path / str(broken)).forecaster.known
        for scales, right in zip((known.centres, known.scales), expected, strict=True):
            assert scales.tolist() == pytest.approx(right, rel=0.01)
