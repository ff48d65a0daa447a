"""What a call tells, cut into requests: rows stay together, and what they lead to comes back whole."""

from collections.abc import Callable, Generator, Sequence
from math import inf, nan
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.client import Gates, InvalidArgument, Observations, _messages, _operations
from statecast.client._ask import Ask
from statecast.client._core import SessionCore
from statecast.client._messages import MAX_VALUES_A_REQUEST
from statecast.client._outbox import MAX_NUMBERS_A_FRAME, Outbox, Settle
from statecast.client._replay_buffer import MAX_NUMBERS
from statecast.client._request import ONLY_APPEND
from statecast.client._response import read_response
from statecast.v1 import forecast_pb2
from statecast.v1.forecast_service_pb2 import ForecastRequest as Request
from statecast.v1.forecast_service_pb2 import ForecastResponse as Response

Respond = Callable[[Request], Response]


def carry_out(operation: Generator[Any, Any, Any], respond: Respond) -> tuple[list[Request], Any]:
    """The requests that an operation sends, and its result, with `respond` in the place of the server."""
    sent: list[Request] = []
    try:
        action = next(operation)
        while True:
            sent.append(Request.FromString(action.message.SerializeToString()))
            action = operation.send(read_response(respond(sent[-1]).SerializeToString()))
    except StopIteration as stop:
        return sent, stop.value


class Server:
    """Takes everything, and tells each value back as its pit; requests of those positions it had taken before."""

    def __init__(self, replayed: Sequence[int] = ()) -> None:
        self._replayed, self._step, self._calls = replayed, 0, -1

    def __call__(self, request: Request) -> Response:
        values = request.observations.values
        self._calls += 1
        self._step += len(values) // (request.observations.targets or 1)
        response = Response(session_id=request.session_id, request_id=request.request_id)
        response.version.step = self._step
        response.replayed = self._calls in self._replayed
        if not response.replayed:
            response.pit.extend(values)
        if request.horizon:
            response.forecast.CopyFrom(
                forecast_pb2.Forecast(
                    horizon=request.horizon, quantile_levels=[0.5], targets=["value"], values=[0.0] * request.horizon
                )
            )
        return response


def observed(told: Observations) -> list[forecast_pb2.Observations]:
    """The blocks of observations, as messages; each says how many numbers it holds."""
    blocks = _messages.observations(told)
    messages = [forecast_pb2.Observations.FromString(block.encoded) for block in blocks]
    for block, message in zip(blocks, messages, strict=True):
        assert (block.values, block.covariates, block.targets) == (
            len(message.values), len(message.covariates), message.targets
        )  # fmt: skip
    return messages


def new_core() -> SessionCore:
    opening = _messages.open_options("demand", "2", 60, {"region": "north"})
    return _operations.new_core("s", opening, resume_only=False, replay_requests=32)


@given(
    rows=st.integers(0, 60),
    targets=st.integers(1, 4),
    covariates=st.integers(1, 4),
    limit=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_however_it_is_cut_rows_stay_together(rows: int, targets: int, covariates: int, limit: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    values, known = chance.normal(size=(rows, targets)), chance.normal(size=(rows, covariates))
    with mock.patch.object(_messages, "MAX_VALUES_A_REQUEST", limit):
        blocks = observed(Observations(values, covariates=known))
    pairs = [
        (np.reshape(block.values, (-1, targets)), np.reshape(block.covariates, (-1, covariates))) for block in blocks
    ]
    assert all(len(ours) == len(theirs) for ours, theirs in pairs)
    assert all(len(block.values) + len(block.covariates) <= max(limit, targets + covariates) for block in blocks)
    assert all(len(block.values) for block in blocks) or len(blocks) == 1
    np.testing.assert_array_equal(np.concatenate([ours for ours, _ in pairs]), values)
    np.testing.assert_array_equal(np.concatenate([theirs for _, theirs in pairs]), known)
    assert {block.targets for block in blocks} == {targets}


@pytest.mark.parametrize(
    ("values", "covariates", "rows"),
    [
        (20.1, 3.0, [[3.0]]),
        (20.1, [3.0, 0.0], [[3.0, 0.0]]),
        ([1, 2], [3.0, None], [[3.0], [nan]]),
        ([1, 2], [[3, True], [4, False]], [[3, 1], [4, 0]]),
        ([[1.0, 5.0]], [[3.0]], [[3.0]]),
        ([1, 2], pd.DataFrame({"price": [3.0, nan], "holiday": [False, True]}), [[3, 0], [nan, 1]]),
        ([1, 2], np.ma.array([3, 4], mask=[False, True]), [[3], [nan]]),
        ((), (), np.empty((0, 1))),
    ],
)
def test_covariates_come_in_many_forms(values: Any, covariates: Any, rows: Any) -> None:
    (block,) = observed(Observations(values, covariates=covariates))
    np.testing.assert_array_equal(block.covariates, np.ravel(rows))


def test_a_flat_list_with_covariates_is_a_row_each() -> None:
    (block,) = observed(Observations([1.0, 2.0, 3.0, 4.0], covariates=[0, 0, 0, 1]))
    assert block.targets == 1  # or a model of two targets might take it for two rows
    assert observed(Observations([1.0, 2.0, 3.0, 4.0]))[0].targets == 0


@pytest.mark.parametrize(
    ("told", "field"),
    [
        (Observations([1, 2], covariates=[[1], [2], [3]]), "observations.covariates"),
        (Observations([1, 2], covariates=5.0), "observations.covariates"),
        (Observations([1, 2], covariates=[[1, 2, 3, 4]]), "observations.covariates"),
        (Observations((), covariates=[1]), "observations.covariates"),
        (Observations([1, 2], covariates=[]), "observations.covariates"),
        (Observations(1, covariates=["warm"]), "observations.covariates"),  # type: ignore[list-item]
        (Observations([1, 2], covariates=pd.DataFrame({"a": ["x", "y"]})), "observations.covariates"),
        (Observations([1, 2], covariates=np.array(["2026-01-01"] * 2, "datetime64[D]")), "observations.covariates"),
        (Observations([1, 2], covariates=[[1, 2], [3]]), "observations.covariates"),
        (Observations([1, 2], covariates=np.zeros((2, 1, 1))), "observations.covariates"),
        (Observations([1, 2], covariates=[[0.0, 1.0], [0.0, inf]]), "observations.covariates[3]"),
        (Observations((), future_covariates=[1, 2]), "future_covariates"),
        (Observations((), future_covariates=5.0), "future_covariates"),
        (Observations((), future_covariates=["a", "b", "c"]), "future_covariates"),  # type: ignore[list-item]
        (Observations((), future_covariates=[1, -inf, 0]), "future_covariates[1]"),
    ],
)
def test_covariates_that_cannot_be_are_refused_by_name(told: Observations, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        next(_operations.step(new_core(), told, Ask(horizon=3), 1.0))
    assert caught.value.field == field
    assert field in str(caught.value)


def test_only_to_append_there_is_no_future() -> None:
    with pytest.raises(InvalidArgument, match=r"future_covariates: .* 0 steps of the horizon"):
        next(_operations.observe(new_core(), Observations(1.0, future_covariates=[1.0]), Ask(), 1.0))


@pytest.mark.parametrize("categories", ["north", {"region": 5}, {7: "north"}, [("region", "north")], {"a": "\ud800"}])
def test_categories_that_cannot_be_are_refused_by_name(categories: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"open\.categories"):
        _messages.open_options("", "", None, categories)


def test_a_long_call_asks_with_its_last_part_alone() -> None:
    told = Observations(np.zeros(9000), covariates=np.zeros((9000, 2)), future_covariates=np.ones((3, 2)))
    sent, forecast = carry_out(_operations.step(new_core(), told, Ask(3, explain=True), 1.0), Server())
    assert [len(request.observations.values) for request in sent] == [2520, 2520, 2520, 1440]
    assert all(len(request.observations.covariates) == 2 * len(request.observations.values) for request in sent)
    assert [(request.horizon, request.explain) for request in sent] == [(0, False)] * 3 + [(3, True)]
    assert [list(request.future_covariates) for request in sent] == [[]] * 3 + [[1.0] * 6]
    assert [dict(request.open.categories) for request in sent] == [{"region": "north"}] + [{}] * 3
    assert forecast.pit.shape == (9000, 1)


def test_one_id_goes_with_one_request_covariates_included() -> None:
    told = Observations(np.zeros(4000), covariates=np.zeros(4000))
    with pytest.raises(InvalidArgument, match="request_id"):
        next(_operations.observe(new_core(), told, Ask(request_id="mine"), 1.0))


@pytest.mark.parametrize("replayed", [(), (0,), (1,), (0, 2)])
def test_the_pit_of_all_parts_comes_back_in_order(replayed: Sequence[int]) -> None:
    values = np.random.default_rng(0).random(3 * MAX_VALUES_A_REQUEST)
    _, receipt = carry_out(_operations.observe(new_core(), Observations(values), Ask(), 1.0), Server(replayed))
    expected = values.astype(np.float32)
    for part in replayed:
        expected[part * MAX_VALUES_A_REQUEST :][:MAX_VALUES_A_REQUEST] = nan
    np.testing.assert_array_equal(receipt.pit, expected.reshape(-1, 1))


def test_where_the_server_tells_no_pit_there_is_none() -> None:
    _, receipt = carry_out(_operations.observe(new_core(), Observations(1.0), Ask(), 1.0), Server(replayed=[0]))
    assert receipt.replayed
    assert receipt.pit is None
    _, forecast = carry_out(_operations.step(new_core(), Observations(()), Ask(2), 1.0), Server())
    assert forecast.pit is None


def test_a_look_before_the_first_part_shifts_no_pit() -> None:
    core = new_core()
    core.is_shared = True
    values = np.random.default_rng(0).random(8000).astype(np.float32)
    sent, receipt = carry_out(_operations.observe(core, Observations(values), Ask(), 1.0), Server())
    assert [len(request.observations.values) for request in sent] == [0, 7560, 440]
    np.testing.assert_array_equal(receipt.pit, values.reshape(-1, 1))


def test_the_pit_of_several_targets_has_their_columns() -> None:
    values = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    _, receipt = carry_out(_operations.observe(new_core(), Observations(values), Ask(), 1.0), Server())
    np.testing.assert_array_equal(receipt.pit, values)
    _, flat = carry_out(_operations.observe(new_core(), Observations(values.ravel()), Ask(), 1.0), Server())
    assert flat.pit.shape == (15, 1)


@pytest.mark.parametrize("cell", [[0.5, 0.25, 0.0, -4.0], []])
def test_gates_arrive_in_their_shape(cell: list[float]) -> None:
    names = ["input", "forget", "candidate", "output"]
    values = np.arange(16, dtype=np.float32) / 16
    message = forecast_pb2.Gates(names=names, layers=2, hidden_size=2, values=values, cell=cell, hidden=[0, 1, 2, 3])
    _, receipt = carry_out(
        _operations.observe(new_core(), Observations(1.0), Ask(explain=True), 1.0), lambda _: Response(gates=message)
    )
    gates: Gates = receipt.gates
    assert gates.names == tuple(names)
    np.testing.assert_array_equal(gates.values, values.reshape(2, 4, 2))
    np.testing.assert_array_equal(gates.hidden, [[0, 1], [2, 3]])
    assert gates.cell is None if not cell else np.array_equal(gates.cell, [[0.5, 0.25], [0, -4]])  # type: ignore[arg-type]


def test_buffers_and_frames_count_covariates() -> None:
    core = new_core()
    told = Observations(np.zeros(3000), covariates=np.zeros(3000))
    server = Server()
    for _ in range(3):
        carry_out(_operations.observe(core, told, Ask(), 1.0), server)
    first = core.replay_buffer.first
    assert first is not None
    assert first.step == 9000 - MAX_NUMBERS // 6000 * 3000
    outbox: Outbox[Settle] = Outbox()
    for _ in range(40):
        (part,) = core.parts(_messages.observations(told), ONLY_APPEND)
        outbox.put(part, 1.0, lambda _: None)
    frame = outbox.next_frame()
    assert frame is not None
    assert len(frame.requests) == -(-MAX_NUMBERS_A_FRAME // 6000)
