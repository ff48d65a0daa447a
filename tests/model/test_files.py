"""A model loads from disk as it was saved, and errors name the fault in its files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from statecast.model import ConfigError, Forecaster, ModelError, WeightsError, load_model, save_model
from statecast.model.state import StateLayout

Make = Callable[..., Forecaster]


@pytest.fixture
def folder(random_model: Make, tmp_path: Path) -> Path:
    save_model(random_model(), tmp_path, {"coverage": 0.8})
    return tmp_path


def test_a_model_comes_back_as_it_was(random_model: Make, folder: Path) -> None:
    model, loaded = random_model(), load_model(folder)
    assert loaded.config == model.config
    assert loaded.digest == model.digest
    assert not loaded.training
    values = torch.randn(1, 30, 2, dtype=torch.float64)
    forecasts = [
        each.forecast(each.context(each.advance(each.initial_state(1), values).state), 6) for each in (model, loaded)
    ]
    assert torch.equal(*forecasts)


def test_the_files_are_these_and_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "metrics.json", "model.safetensors"]


def test_the_digest_is_the_same_wherever_the_files_lie(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    save_model(load_model(folder), other)
    assert load_model(other).digest == load_model(folder).digest


def test_the_digest_changes_with_any_weight_or_key(random_model: Make) -> None:
    digest = random_model().digest
    assert random_model(version="2").digest != digest
    model = random_model()
    assert model.digest == digest
    with torch.no_grad():
        model.head.trust.add_(1e-6)
    assert model.digest != digest


def test_the_digest_changes_with_the_layout_of_the_state(random_model: Make) -> None:
    model = random_model()
    first, *others = model.layout.parts
    digests = {model.digest}
    for changed in (
        replace(first, name="other"),
        replace(first, shape=(*first.shape, 1)),
        replace(first, dtype="float64"),
    ):
        model.layout = StateLayout((changed, *others))
        digests.add(model.digest)
    model.layout = StateLayout((first, *reversed(others)))
    assert len({*digests, model.digest}) == 5


def rewrite_config(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda config: config.update(color="red"), "color: unknown key"),
        (lambda config: config.pop("layers"), "layers: missing key"),
        (lambda config: config.update(layers="two"), "layers: expected a whole number"),
        (lambda config: config.update(targets=[]), "targets"),
    ],
)
def test_a_wrong_configuration_is_refused_by_key_and_file(
    folder: Path, change: Callable[[dict[str, object]], object], key: str
) -> None:
    rewrite_config(folder, change)
    with pytest.raises(ConfigError, match=key) as caught:
        load_model(folder)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00", "[" * 200_000, '{"name": "a", "name": "b"}'])
def test_a_damaged_configuration_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_model(folder)


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors["head.trust"]


def add(tensors: dict[str, Tensor]) -> None:
    tensors["head.more"] = torch.zeros(1)


def reshape(tensors: dict[str, Tensor]) -> None:
    tensors["head.steps"] = torch.zeros(1, 2)


def widen(tensors: dict[str, Tensor]) -> None:
    tensors["head.mix.bias"] = tensors["head.mix.bias"].double()


def poison(tensors: dict[str, Tensor]) -> None:
    tensors["head.emit.bias"][0] = torch.nan


def blow_up(tensors: dict[str, Tensor]) -> None:
    tensors["cell.fused.weight_hh_l0"][0, 0] = torch.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"head\.trust: missing"),
        (add, r"head\.more: unknown"),
        (reshape, r"head\.steps: expected shape"),
        (widen, r"head\.mix\.bias: expected torch\.float32"),
        (poison, r"head\.emit\.bias: holds NaN"),
        (blow_up, r"weight_hh_l0: holds NaN or infinite"),
    ],
)
def test_wrong_weights_are_refused_by_tensor_and_file(
    folder: Path, change: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(folder)
    assert "model.safetensors" in str(caught.value)


def test_damaged_or_absent_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_model(folder)


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        load_model(tmp_path / "nowhere")
