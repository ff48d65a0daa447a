"""The tiny end of the benchmark: every load on a real server, real peers, real floors, and the report."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from bench.compare import floors, loads, sessions
from bench.compare.findings import Findings, Key, Population
from bench.compare.loop import Measured, Pace
from bench.compare.models import plain_config, usual_config, write_models
from bench.compare.names import ECHO, FRAMES, OURS, PLAIN, TRITON, UNARY, USUAL
from bench.compare.peers import Start, echo, handwritten
from bench.compare.report import markdown
from bench.compare.servers import Serving, serve
from bench.compare.sizes import QUICK
from bench.compare.stages import Bench
from bench.compare.targets import targets
from bench.compare.usage import Watched, cpu_seconds

PACE = Pace(0.1, 0.4)
FRAME = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    usual = dataclasses.replace(usual_config(), hidden_size=8, head_size=8)
    with serve(write_models(tmp_path_factory.mktemp("models"), plain_config(8), usual), PLAIN) as serving:
        yield serving


def test_the_start_is_timed(server: Serving) -> None:
    assert 0.1 < server.start_seconds < 60


@pytest.mark.parametrize(("model", "horizon"), [(PLAIN, 24), (PLAIN, 0), (USUAL, 24)])
def test_frames(server: Serving, model: str, horizon: int) -> None:
    name = f"{model}-{horizon}"
    measured = loads.run(loads.Frames(server.target, name, 2, FRAME, model, horizon), PACE, server.watched)
    check(measured)
    assert measured.observations % FRAME == 0
    assert measured.redis_us > 0
    assert 50 < measured.aof_bytes < 5000
    levels = len(usual_config().quantile_levels) if model == USUAL else 9
    assert measured.network_bytes > 4 * horizon * levels
    assert not measured.counts_loopback


def test_frames_from_a_population(server: Serving) -> None:
    assert sessions.populate(server.target, "many", 50) > 0
    check(loads.run(loads.Frames(server.target, "many", 2, FRAME, PLAIN, population=50), PACE, server.watched))
    missing = loads.Frames(server.target, "nobody", 1, FRAME, PLAIN, population=50)
    with pytest.raises(ExceptionGroup) as failed:
        loads.run(missing, PACE, server.watched)
    assert failed.group_contains(loads.LoadFailed)


def test_unary_calls_and_the_client(server: Serving) -> None:
    unary = loads.run(loads.Unary(server.target, "unary", 3, PLAIN), PACE, server.watched)
    check(unary)
    client = loads.run(loads.Client(server.target, "client", 3, PLAIN), PACE, server.watched)
    check(client)
    assert client.counts_loopback
    assert client.network_bytes > unary.network_bytes / 2


def test_catching_up_and_history(server: Serving) -> None:
    measured = sessions.catch_up(server.target, server.watched, 1)
    assert measured.observations == 10_000
    sizes = dataclasses.replace(QUICK, history_steps=10_000, history_blocks=1, history_calls=3)
    history = sessions.compare_history(server.target, server.watched, sizes)
    assert history.ratio == pytest.approx(history.late_us / history.early_us)


def own_python() -> Path:
    return Path(sys.executable)


@pytest.mark.parametrize(("start", "network_bytes"), [(echo, 400), (handwritten(own_python), 12 + 24 * 9 * 4)])
def test_a_peer(start: Start, network_bytes: int) -> None:
    with start() as peer:
        measured = loads.run(peer.load(4), PACE, peer.watched)
        check(measured)
        assert measured.network_bytes == network_bytes
        assert (measured.aof_bytes > 2048) == (peer.watched.redis is not None)
        if peer.stream:
            check(loads.run(peer.stream_load(4), PACE, peer.watched))


def test_a_peer_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    bench = Bench(QUICK, tmp_path / "cache", tmp_path, lambda line: None)
    bench.stages[TRITON]()
    assert bench.findings.skipped[0].startswith("triton: its environment cannot be made")
    assert "- triton: its environment cannot be made" in markdown(bench.findings)


def test_floors() -> None:
    commit = floors.commit_alone(0.1, sessions=FRAME)
    assert commit.aof_bytes > floors.ENTRY_BYTES
    assert 0 < commit.client_us < commit.elapsed_us
    assert commit.redis_us > 0
    assert floors.matrix_products(8, 0.02) < floors.matrix_products(1, 0.02)
    assert floors.lstm_alone(8, 20, 0.02) > floors.lstm_alone(1, 20, 0.02)


def test_cpu_is_that_of_the_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            time.sleep(0.3)
            read, times = cpu_seconds(busy.pid), psutil.Process(busy.pid).cpu_times()
            assert read == pytest.approx(times.user + times.system, abs=0.05)
            assert Watched(busy.pid).memory_bytes() > 0
        finally:
            busy.kill()
    assert cpu_seconds(busy.pid) == 0.0


def test_the_report_says_what_was_found_and_what_should_have_been() -> None:
    findings = Findings(start_seconds=[4.0, 5.5, 4.5], matrices_us={64: 3.0, 256: 2.0})
    findings.rows[Key(ECHO, UNARY, 64)] = example(server_us=100)
    findings.rows[Key(OURS, UNARY, 64)] = example(server_us=130)
    findings.rows[Key(OURS, FRAMES, 256)] = example(server_us=50)
    findings.rows[Key(TRITON, UNARY, 256)] = example(server_us=150)
    findings.commit = floors.CommitFloor(client_us=10, redis_us=5, elapsed_us=20, aof_bytes=150)
    findings.population = Population(1000, 500.0, 2700.0, 2**28, 2**29)
    judged = {target.what: target.is_reached for target in targets(findings)}
    assert judged["unary 64: server CPU, of echo's"]
    assert judged["frames of 256: how many times less server CPU than Triton's at 256"] is False
    assert judged["unary 1: p50, of Triton's"] is None
    assert judged["start to SERVING, s"]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown(findings).splitlines()]
    assert ["unary", "64", "100", "10.0", "3.00", "113", "130", "1.15"] in lines
    assert ["unary 64: server CPU, of echo's", "<= 1.35", "1.30", "reached"] in lines
    assert ["memory of Redis, bytes a session", "2,700"] in lines


def example(server_us: float) -> Measured:
    return Measured(1000, 2.0, 1.0, 2.0, server_us, 5.0, 50.0, 160.0, 400.0, counts_loopback=False, other_cores=0.0)


def check(measured: Measured) -> None:
    assert measured.rate > 0
    assert 0 < measured.p50_ms <= measured.p99_ms
    assert measured.server_us > 0
    assert measured.client_us > 0
