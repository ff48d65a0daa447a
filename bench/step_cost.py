"""What one observation with a forecast costs a client at step 10 and at step 1,000,000 of a session.

    .venv/bin/python bench/step_cost.py

Starts a server with an embedded Redis. The two sessions take turns, call by call, so that a noisy machine disturbs both
alike; what counts is the ratio.
"""

import statistics
import time
from pathlib import Path

import numpy as np

from statecast.client import Client, Session
from statecast.service.demo.process import DemoServer, new_folder

HORIZON = 24
LONG_STEPS = 1_000_000
CALLS = 500


def main() -> None:
    """Measures and prints."""
    with new_folder() as folder:
        server = DemoServer(Path(folder))
        try:
            server.start()
            with Client(server.target, timeout_seconds=60) as client:
                _measure(client.session("short"), client.session("long"))
        finally:
            server.stop()


def _measure(short: Session, long: Session) -> None:
    rng = np.random.default_rng(0)
    for session, steps in ((short, 10), (long, LONG_STEPS)):
        session.observe(rng.normal(size=steps))
        session.step(0.0, HORIZON)
    taken: dict[str, list[float]] = {"short": [], "long": []}
    for value in rng.normal(size=CALLS):
        for session in (short, long):
            started = time.perf_counter()
            session.step(float(value), HORIZON)
            taken[session.id].append(time.perf_counter() - started)
    medians = {name: statistics.median(each) * 1e3 for name, each in taken.items()}
    for session in (short, long):
        version = session.version
        print(f"up to step {version.step if version else 0:>9,}: median {medians[session.id]:.2f} ms a call")
    print(f"ratio {medians['long'] / medians['short']:.3f} over {CALLS} calls each")


if __name__ == "__main__":
    main()
