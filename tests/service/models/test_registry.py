"""Which model a request gets, and the error if there is none."""

from pathlib import Path

import pytest
import torch
from support.models import tiny_model

from statecast.model import save_model
from statecast.service.errors import NotFound, StartupError, Unavailable
from statecast.service.models.registry import Model, Registry, load_folder, load_registry, version_folders
from statecast.v1.reasons import Reason


def model(name: str, version: str) -> Model:
    return Model(tiny_model(name, version=version))


@pytest.fixture
def registry() -> Registry:
    return Registry([model("tiny", "2"), model("tiny", "10"), model("three", "1")], default="tiny")


def test_the_newest_version_of_the_default_model_is_the_default(registry: Registry) -> None:
    assert registry.get("", "").labels == ("tiny", "10")
    assert registry.get("tiny", "").labels == ("tiny", "10")
    assert registry.get("tiny", "2").labels == ("tiny", "2")
    assert [each.labels for each in registry] == [("three", "1"), ("tiny", "10"), ("tiny", "2")]


def test_a_model_that_is_added_is_found(registry: Registry) -> None:
    registry.set_broken({("tiny", "11"): "why"})
    registry.add(model("tiny", "11"))
    assert registry.get("tiny", "").labels == ("tiny", "11")
    assert not registry.broken
    assert registry.find("tiny", "12") is None


def test_a_model_that_does_not_exist_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound, match="there is no model 'none'; there are: three, tiny") as caught:
        registry.get("none", "")
    assert caught.value.reason is Reason.MODEL_NOT_FOUND
    with pytest.raises(NotFound, match="model 'tiny' has no version '3'; it has: 2, 10"):
        registry.get("tiny", "3")


def test_a_version_that_cannot_be_loaded_is_unavailable(registry: Registry) -> None:
    registry.set_broken({("tiny", "11"): "why", ("none", "1"): "why"})
    for name, version in (("tiny", "11"), ("none", "1"), ("none", "")):
        with pytest.raises(Unavailable) as caught:
            registry.get(name, version)
        assert (caught.value.reason, caught.value.retry_after_seconds) == (Reason.MODEL_UNAVAILABLE, 60.0)
    assert registry.get("tiny", "").labels == ("tiny", "10")  # the newest that works


def test_a_version_that_is_being_loaded_is_worth_waiting_for(registry: Registry) -> None:
    registry.expect(lambda name, version: (name, version) == ("tiny", "11"))
    with pytest.raises(Unavailable) as caught:
        registry.get("tiny", "11")
    assert caught.value.reason is Reason.MODEL_LOADING
    with pytest.raises(NotFound):
        registry.get("tiny", "12")


def test_the_default_model_must_exist() -> None:
    with pytest.raises(StartupError, match="default-model 'none' does not exist; choose one of: tiny"):
        Registry([model("tiny", "1")], default="none")


def test_folders_that_begin_with_a_dot_are_passed_over(tmp_path: Path) -> None:
    for path in ("a/1", "a/.2", ".b/1", "c/..data"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in version_folders(tmp_path)] == ["a/1"]


def test_a_folder_must_have_the_name_of_its_model(tmp_path: Path) -> None:
    save_model(tiny_model("tiny", version="1"), tmp_path / "tiny" / "2")
    (tmp_path / "three" / "1").mkdir(parents=True)
    (tmp_path / "three" / "1" / "config.json").write_text("{}")
    registry = load_registry(tmp_path, "base", torch.device("cpu"))
    assert "move the folder to tiny/1/" in registry.broken["tiny", "2"]
    assert set(registry.broken) == {("tiny", "2"), ("three", "1")}
    assert {each.config.name for each in registry} == {"base"}
    with pytest.raises(StartupError, match="--require-all-models requires all"):
        load_registry(tmp_path, "base", torch.device("cpu"), require_all=True)
    with pytest.raises(StartupError, match=r"default-model 'tiny': model in .* cannot be loaded"):
        load_registry(tmp_path, "tiny", torch.device("cpu"))


def test_a_model_is_loaded_from_its_folder(tmp_path: Path) -> None:
    save_model(tiny_model("tiny", version="1"), tmp_path / "tiny" / "1")
    loaded = load_folder(tmp_path / "tiny" / "1", torch.device("cpu"))
    assert (str(loaded), loaded.digest) == ("tiny version 1", model("tiny", "1").digest)


def test_a_models_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"models folder .*/none does not exist; create it"):
        load_registry(tmp_path / "none", "base", torch.device("cpu"))
