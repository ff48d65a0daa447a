"""A state is the same after serialization, and states can be joined and split by session."""

from collections.abc import Callable

import pytest
import torch

from statecast.model import Forecaster, State, StateError

Models = dict[str, Forecaster]


def advanced(model: Forecaster, batch: int) -> State:
    values = torch.randn(batch, 9, 2, dtype=torch.float64)
    return model.advance(model.initial_state(batch), values).state


def assert_equal(left: State, right: State) -> None:
    assert list(left) == list(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_a_state_survives_its_bytes(models: Models, cell: str, batch: int) -> None:
    model = models[cell]
    state = advanced(model, batch)
    rows = model.layout.pack(state)
    assert [len(row) for row in rows] == [model.layout.nbytes] * batch
    assert_equal(model.layout.unpack(rows, model.device), state)


def test_bytes_are_the_parts_in_order_and_little_endian(models: Models) -> None:
    model = models["lstm"]
    state = advanced(model, 1)
    expected = b"".join(
        state[part.name].numpy().astype(state[part.name].numpy().dtype.newbyteorder("<")).tobytes()
        for part in model.layout.parts
    )
    assert model.layout.pack(state) == [expected]


def test_a_session_without_lags_has_a_state_too(random_model: Callable[..., Forecaster]) -> None:
    model = random_model(lags=())
    state = advanced(model, 2)
    assert_equal(model.layout.unpack(model.layout.pack(state), "cpu"), state)
    assert bool(model.forecast(model.context(state), 3).isfinite().all())


@pytest.mark.parametrize("change", [-1, 1])
def test_a_row_of_the_wrong_length_is_refused(models: Models, change: int) -> None:
    layout = models["gru"].layout
    with pytest.raises(StateError, match=r"rows\[1\]"):
        layout.unpack([bytes(layout.nbytes), bytes(layout.nbytes + change)], "cpu")


def test_another_models_state_is_refused(models: Models) -> None:
    with pytest.raises(StateError, match="cell"):
        models["lstm"].layout.pack(advanced(models["gru"], 1))
    state = advanced(models["lstm"], 1)
    wrong = State({**state, "hidden": state["hidden"].double()})
    with pytest.raises(StateError, match="hidden"):
        models["lstm"].context(wrong)


def test_states_are_joined_and_picked_apart(models: Models) -> None:
    model = models["lstm"]
    first, second = advanced(model, 2), advanced(model, 3)
    joined = State.cat([first, second])
    assert joined.batch_size == 5
    assert_equal(joined.select(torch.tensor([2, 3, 4])), second)
    with pytest.raises(StateError):
        State.cat([])
    with pytest.raises(StateError):
        State.cat([first, advanced(models["gru"], 1)])
