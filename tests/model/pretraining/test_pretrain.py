"""Pretraining: a training that was stopped ends with the same weights, and may go on for longer."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from statecast.model import Forecaster
from statecast.model.pretraining import pretrain
from statecast.model.pretraining.pretrain import BASE, Settings, train

TINY = Settings(batch=2, steps=64, chunk=32, origins=2, near=3, far=1, batches=3)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 1)


def fresh() -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(replace(BASE, hidden_size=4, head_size=4, window=48))


def weights(settings: Settings, checkpoint: Path | None) -> dict[str, torch.Tensor]:
    model = fresh()
    train(model, settings, checkpoint)
    return model.state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(each, right[name]) for name, each in left.items())


def test_a_stopped_training_goes_on_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, whole = tmp_path / "checkpoint", weights(TINY, None)
    assert not same(whole, fresh().state_dict())
    rates = pretrain._set_rate

    def stopped(optimizer: torch.optim.Optimizer, highest: float, progress: float, done: int) -> None:
        if done == 3:  # in the second batch of two chunks
            raise KeyboardInterrupt
        rates(optimizer, highest, progress, done)

    with monkeypatch.context() as stopping:
        stopping.setattr(pretrain, "_set_rate", stopped)
        with pytest.raises(KeyboardInterrupt):
            weights(TINY, checkpoint)
    assert same(weights(TINY, checkpoint), whole)


def test_a_checkpoint_from_before_the_decay_goes_on_for_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "checkpoint"
    short, long = replace(TINY, batches=5), replace(TINY, batches=6)
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 3)
    begun = train(fresh(), short, checkpoint)
    assert train(fresh(), long, checkpoint).losses[:3] == begun.losses[:3]
    with pytest.raises(ValueError, match=r"checkpoint: .* of a training with other settings"):
        train(fresh(), replace(TINY, seed=1), checkpoint)


def test_the_loss_is_recorded_by_compute() -> None:
    progress = train(fresh(), TINY)
    told = progress.summary()["loss_after_batches"]
    assert [batches for batches, _ in told] == [1, 2, 3]
    assert [loss for _, loss in told] == pytest.approx(progress.losses, abs=1e-4)
