"""Checkpoints load as they were written, and cannot run code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from statecast.model.errors import DataError
from statecast.model.training.checkpoints import SafetensorsIO, cache_folder, load_checkpoint

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TENSORS = st.sampled_from([torch.tensor(1.5), torch.zeros(0), torch.arange(6).view(2, 3).T, torch.tensor([True])])
NESTED = st.recursive(
    PLAIN | TENSORS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and all(map(same, left, right)) and len(left) == len(right)
    return type(left) is type(right) and bool(left == right)


@given(content=st.dictionaries(st.text() | st.integers(), NESTED))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: dict[Any, Any]) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "sub" / "a.ckpt"
    SafetensorsIO().save_checkpoint(content, path)
    assert same(SafetensorsIO().load_checkpoint(path), content)
    assert [each.name for each in path.parent.iterdir()] == ["a.ckpt"]
    SafetensorsIO().remove_checkpoint(path)
    assert not path.exists()


def test_code_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a checkpoint cannot hold a PosixPath"):
        SafetensorsIO().save_checkpoint({"path": tmp_path}, tmp_path / "a.ckpt")


def test_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"model": Opening(tmp_path / "opened")}, path)
    with pytest.raises(DataError, match="is not a checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "opened").exists()


class Opening:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "statecast" / "training"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/statecast/training")
