from pathlib import Path

import pytest

from statecast.service.errors import StartupError
from statecast.service.rpc.tensor_names import FORECAST, STEP, VALUES, TensorNames


def test_each_tensor_has_its_own_name_and_maybe_another(tmp_path: Path) -> None:
    path = tmp_path / "tensors.toml"
    path.write_text('[pump]\nINPUT = "values"\nOUTPUT = "forecast"\nstep = "step"\n[other]\nX = "forecast"\n')
    names = TensorNames(path)
    assert [names.find("pump", name) for name in ("INPUT", "values", "OUTPUT", "step", "X", "")] == [
        VALUES, VALUES, FORECAST, STEP, None, None
    ]  # fmt: skip
    assert [names.shown("pump", tensor) for tensor in (VALUES, FORECAST, STEP)] == ["INPUT", "OUTPUT", "step"]
    assert (names.find("third", "INPUT"), names.find("third", "values")) == (None, VALUES)
    assert names.shown("other", FORECAST) == "X"
    assert TensorNames().shown("pump", VALUES) == "values"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[pump", "is not TOML: "),
        ("pump = 1", "[pump] is not a table named after a model"),
        ('[pump]\nINPUT = "value"', "[pump] INPUT = 'value' is not a tensor; the tensors are values, "),
        ("[pump]\nINPUT = 1", "[pump] INPUT = 1 is not a tensor"),
        ("[pump]\nINPUT = []", "[pump] INPUT = [] is not a tensor"),
        ('[pump]\n"" = "values"', "[pump] '' must not be the name of values"),
        ('[pump]\nforecast = "values"', "[pump] 'forecast' must not be the name of values"),
        ('[pump]\nA = "values"\nB = "values"', "[pump] gives values several names"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "tensors.toml"
    path.write_text(text)
    with pytest.raises(StartupError) as caught:
        TensorNames(path)
    assert str(caught.value).startswith(f"tensor-names {path}")
    assert problem in str(caught.value)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read: No such file"):
        TensorNames(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tensors.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match="is not TOML"):
        TensorNames(path)
