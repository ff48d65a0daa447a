"""What belongs to what, on stacks as py-spy writes them, and on a process that does one thing."""

import subprocess
import sys
from pathlib import Path

import pytest
from bench.shares import shares, shares_of

LOOP = "thread (1): MainThread;run_forever (asyncio/base_events.py:607);"
ENGINE = "thread (2): engine_0;Engine.run (service/engine/engine.py:79);"


def test_a_sample_belongs_to_the_first_part_that_has_a_place_on_its_stack() -> None:
    found = shares(
        [
            LOOP + "Handle._run (asyncio/events.py:80) 10",
            LOOP + "Handle._run (asyncio/events.py:80);to_request (service/rpc/forecast_requests.py:30) 20",
            ENGINE + "advance (service/engine/advance.py:70);Forecaster.advance (model/forecaster.py:99) 30",
            ENGINE + "Store.commit (service/store/store.py:145);execute (redis/client.py:867) 25",
            ENGINE + "_results (service/engine/engine.py:277) 10",
            "thread (3): main;main (elsewhere.py:1) 5",
        ]
    )
    assert found.pop("gRPC, event loop") == 0.1
    assert found.pop("requests, answers") == 0.2
    assert found.pop("observation") == 0.3
    assert found.pop("loads and commits") == 0.25
    assert found.pop("queue, batches") == 0.1
    assert set(found.values()) == {0}


def test_whoever_waits_is_left_out() -> None:
    found = shares(
        [
            LOOP + "EpollSelector.select (selectors.py:468) 50",
            ENGINE + "Condition.wait (threading.py:327) 50",
            "thread (4): Thread-2 (_poll_wrapper);Thread.run (threading.py:982) 50",
            ENGINE + "_results (service/engine/engine.py:277) 1",
        ]
    )
    assert found["queue, batches"] == 1


def test_a_process_is_sampled(tmp_path: Path) -> None:
    package = tmp_path / "prometheus_client"
    package.mkdir()
    (package / "__init__.py").write_text("def spin():\n    while True:\n        pass\n")
    command = [sys.executable, "-c", "import prometheus_client as busy; busy.spin()"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        try:
            found = shares_of(process.pid, 1.0, tmp_path / "samples.txt")
        except subprocess.CalledProcessError as error:
            if b"ermission" in error.stderr:
                pytest.skip("py-spy may not look into other processes here")
            raise
        finally:
            process.kill()
    assert found["counters"] > 0.5
