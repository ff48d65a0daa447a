"""The chain model fulfils the contract of a model, and its forecasts show exactly its session's values."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.hash_model import HORIZON, LARGEST_VALUE, HashModel, Told, chain_after, read, told_after

from statecast.model import State, StreamingModel

VALUES = st.lists(st.integers(-LARGEST_VALUE, LARGEST_VALUE), max_size=80)


def told(model: StreamingModel, state: State) -> Told:
    trace = model.advance(state, torch.empty(1, 0, 1, dtype=torch.float64))
    context = trace.context(torch.tensor([0]), torch.tensor([0]))
    return read(model.forecast(context, HORIZON)[0].numpy())


def rows(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)


@given(VALUES, st.lists(st.integers(0, 80), max_size=5))
def test_it_tells_what_it_took_however_that_was_cut(values: list[int], cuts: list[int]) -> None:
    model = HashModel()
    state = model.initial_state(1)
    bounds = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    for start, end in pairwise(bounds):
        state = model.advance(state, rows(values[start:end])).state
    assert told(model, state) == told_after(values)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_sessions_of_a_batch_are_apart_and_every_state_between_can_be_told(sessions: list[list[int]]) -> None:
    model = HashModel()
    lengths = torch.tensor([len(values) for values in sessions])
    padded = torch.full((len(sessions), int(lengths.max()), 1), torch.nan, dtype=torch.float64)
    for row, values in enumerate(sessions):
        padded[row, : len(values)] = rows(values)[0]
    trace = model.advance(model.initial_state(len(sessions)), padded, lengths)
    packed = model.layout.unpack(model.layout.pack(trace.state))
    for row, values in enumerate(sessions):
        assert told(model, packed.select([row])) == told_after(values)
        halfway = len(values) // 2
        context = trace.context(torch.tensor([row]), torch.tensor([halfway]))
        assert read(model.forecast(context, HORIZON)[0].numpy()) == told_after(values[:halfway])


def test_the_hash_depends_on_every_value_and_on_their_order() -> None:
    assert len({chain_after(each) for each in ([], [1], [2], [1, 2], [2, 1], [1, 1], [1, 2, 2], [0, 1, 2])}) == 8


def test_half_a_forecast_or_a_wrong_count_is_not_read() -> None:
    model = HashModel()
    trace = model.advance(model.initial_state(1), rows([5, 6]))
    values = model.forecast(trace.context(torch.tensor([0]), torch.tensor([2])), HORIZON)[0].numpy()
    with pytest.raises(ValueError, match="not a whole forecast"):
        read(values[:-1])
    fewer = np.array(values)
    fewer[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="last ones are"):
        read(fewer)
