"""A sealed model gives the same results, whichever batch was recorded."""

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from support.models import shop_model, tiny_model

import statecast.model.layers.recorded as captured_module
from statecast.model import Forecaster, Future, State, StreamingModel, bundled_models, load_model
from statecast.model.layers.recorded import Captured, CudaGraphs, Results

HOUR_NS = 3_600_000_000_000
MODELS: dict[str, Callable[[], StreamingModel]] = {
    "tiny": tiny_model,
    "shop": shop_model,
    "base": lambda: load_model(bundled_models() / "base" / "2"),
}


class Repeated(CudaGraphs):
    """A stand-in for a CUDA graph that runs in the same memory without a GPU."""

    captures = 0

    def capture(self, run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        self.captures += 1
        results = run()

        def again() -> None:
            for result, anew in zip(results, run(), strict=True):
                result.copy_(anew)

        return results, again


def sealed(model: Forecaster, recorder: CudaGraphs | None = None) -> Forecaster:
    copy = Forecaster(model.config)
    copy.load_state_dict(model.state_dict())
    copy.seal()
    if recorder:
        copy._captured = Captured(recorder)
    return copy


def plain(model: Forecaster) -> Forecaster:
    copy = Forecaster(model.config).eval()
    copy.load_state_dict(model.state_dict())
    return copy


def close(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Return whether two tensors are equal up to the rounding of different batch sizes."""
    return torch.allclose(left, right, rtol=1e-3, atol=1e-3, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batches", [(1, 3, 1), (5, 1, 64), (64, 9, 8, 3)])
def test_steps_of_any_batch_are_the_same(name: str, batches: Sequence[int]) -> None:
    model = MODELS[name]()
    assert isinstance(model, Forecaster)
    used = Repeated()
    one, other = plain(model), sealed(model, used)
    for batch in batches:
        rng = np.random.default_rng(batch)
        states: tuple[State, State] = one.initial_state(batch), other.initial_state(batch)
        for step in range(12):
            given = _given(one, rng, batch, step)
            traces = [each.advance(state, **given) for each, state in zip((one, other), states, strict=True)]
            assert all(close(traces[0].state[part], traces[1].state[part]) for part in states[0])
            assert close(traces[0].pit, traces[1].pit)
            states = traces[0].state, traces[1].state
            future = _future(one, rng, batch, step)
            horizon = min(24, one.config.horizon)
            forecasts = [
                each.forecast(each.context(trace.state, given["categories"]), horizon, future)
                for each, trace in zip((one, other), traces, strict=True)
            ]
            assert close(*forecasts)
    assert used.captures >= 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", MODELS)
def test_graphs_on_a_gpu_do_what_is_done_without(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = MODELS[name]()
    assert isinstance(model, Forecaster)
    one, other = plain(model).cuda(), sealed(model).cuda()
    for batch in (3, 9, 64, 5):
        rng = np.random.default_rng(batch)
        states: tuple[State, State] = one.initial_state(batch), other.initial_state(batch)
        for step in range(12):
            given = _given(one, rng, batch, step)
            moved: dict[str, Any] = {name: None if each is None else each.cuda() for name, each in given.items()}
            traces = [each.advance(state, **moved) for each, state in zip((one, other), states, strict=True)]
            states = traces[0].state, traces[1].state
            for part in states[0]:
                torch.testing.assert_close(states[0][part], states[1][part], rtol=1e-5, atol=1e-5, equal_nan=True)
    assert "without CUDA graphs" not in caplog.text


def test_a_graph_is_made_for_each_of_a_few_sizes_and_its_results_are_the_callers() -> None:
    recorder, calls = Repeated(), 0
    captured = Captured(recorder)

    def shifted(values: torch.Tensor, table: torch.Tensor, rows: torch.Tensor) -> Results:
        nonlocal calls
        calls += 1
        return (values + table[rows],)

    kept = []
    for size in (1, 7, 8, 9, 16, 3) * 3:
        rows = torch.arange(size).flip(0) % 5
        values, table = torch.full((size,), float(size)), torch.arange(5.0) * 10
        (result,) = captured.run("shifted", shifted, [values, table, rows])
        kept.append((result, values + table[rows]))
    assert recorder.captures == 2  # one of 8 rows, one of 16
    assert all(torch.equal(result, expected) for result, expected in kept)
    before = calls
    nothing = torch.empty(0)
    (result,) = captured.run("shifted", shifted, [nothing, nothing, torch.empty(0, dtype=torch.int64)])
    assert len(result) == 0
    assert calls == before + 1


def test_graphs_that_share_their_memory_take_turns() -> None:
    class Shared(Repeated):
        """A stand-in whose results all share one place in memory."""

        place = torch.zeros(8)

        def capture(self, run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
            def again() -> None:
                (result,) = run()
                self.place.copy_(result)

            again()
            return (self.place,), again

    captured = Captured(Shared())

    def add(number: int) -> bool:
        expected = torch.arange(5.0) + number
        results = [captured.run(number, lambda each: (each + number,), [torch.arange(5.0)])[0] for _ in range(200)]
        return all(torch.equal(result, expected) for result in results)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(add, range(4)))


def test_what_cannot_be_captured_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    class Never(CudaGraphs):
        def capture(self, run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
            raise RuntimeError("operation not permitted when stream is capturing")

    captured = Captured(Never())
    for _ in range(10):
        (result,) = captured.run("double", lambda values: (2 * values,), [torch.ones(3)])
        assert result.tolist() == [2.0, 2.0, 2.0]
    assert caplog.text.count("not permitted") == 1


def _given(model: Forecaster, rng: np.random.Generator, batch: int, step: int) -> dict[str, Any]:
    config = model.config
    values = rng.normal(size=(batch, 1, len(config.targets) + len(config.covariates))) + 100
    values[rng.random(values.shape) < 0.1] = np.nan
    counts = [len(category.values) + 1 for category in config.categories]
    return {
        "values": torch.from_numpy(values),
        "times": torch.full((batch, 1), step * HOUR_NS) if config.frequency else None,
        "categories": torch.from_numpy(rng.integers(0, counts, (batch, len(counts)))) if counts else None,
    }


def _future(model: Forecaster, rng: np.random.Generator, batch: int, step: int) -> Future:
    config = model.config
    times = (step + 1 + torch.arange(config.horizon)).expand(batch, -1) * HOUR_NS
    covariates = torch.from_numpy(rng.normal(size=(batch, config.horizon, len(config.covariates))))
    return Future(times if config.frequency else None, covariates if config.covariates else None)


def test_a_model_that_learns_is_not_sealed() -> None:
    model = tiny_model()
    model.train()
    trace = model.advance(model.initial_state(2), torch.ones(2, 1, len(model.config.targets), dtype=torch.float64))
    assert trace.state["hidden"].requires_grad


def test_two_threads_record_together_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = Captured(Repeated())
    threads, recorded = 4, list[object]()
    together = threading.Barrier(threads)
    record = CudaGraphs.record
    monkeypatch.setattr(captured_module, "SEEN_BEFORE", 1)
    is_worth_it = Captured._is_worth_it

    def all_at_once(captured: Captured, key: Hashable, most: int) -> bool:
        found = is_worth_it(captured, key, most)
        together.wait(20)
        return found

    def noted(*arguments: Any) -> Any:
        recorded.append(arguments)
        return record(*arguments)

    monkeypatch.setattr(Captured, "_is_worth_it", all_at_once)
    monkeypatch.setattr(CudaGraphs, "record", noted)

    def double() -> float:
        (doubled,) = captured.run("double", lambda values: (2 * values,), [torch.tensor([3.0])])
        return doubled.item()

    with ThreadPoolExecutor(threads) as pool:
        assert [each.result(60) for each in [pool.submit(double) for _ in range(threads)]] == [6.0] * threads
    assert len(recorded) == 1


def test_not_everything_is_recorded() -> None:
    recorder = Repeated()
    captured = Captured(recorder)

    def double(values: torch.Tensor) -> tuple[torch.Tensor]:
        return (2 * values,)

    for _ in range(5):
        for key in range(2 * CudaGraphs.most):
            (doubled,) = captured.run(key, double, [torch.tensor([3.0])])
            assert doubled.tolist() == [6.0]
    assert recorder.captures == CudaGraphs.most


class Refusing(Repeated):
    """A recorder that fails."""

    def record(self, function: Callable[..., Results], arguments: Sequence[torch.Tensor | None]) -> Any:
        raise TypeError("no graph in this version")


class Lying(Repeated):
    """A recorder whose recordings give wrong results."""

    def record(self, function: Callable[..., Results], arguments: Sequence[torch.Tensor | None]) -> Any:
        recorded = super().record(function, arguments)
        return lambda given: tuple(result + 1 for result in recorded(given))


@pytest.mark.parametrize(
    ("recorder", "reason"), [(Refusing, "no graph in this version"), (Lying, "the recording gives other results")]
)
def test_a_recording_that_fails_or_lies_is_not_used(
    recorder: type[Repeated], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    captured, numbers = Captured(recorder()), torch.tensor([[1.0, float("nan")], [3.0, 4e9]])
    for batch in (1, 2, 1, 2, 1, 2):
        (result,) = captured.run("double", lambda given: (given * 2,), [numbers[:batch]])
        assert torch.equal(result.nan_to_num(-1.0), (numbers[:batch] * 2).nan_to_num(-1.0))
    assert [record.message for record in caplog.records] == [f"the model runs slower, without a recording: {reason}"]
