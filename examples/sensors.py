"""Many sensors in one call, and the ones whose latest value is surprising.

    .venv/bin/python examples/sensors.py [--target localhost:50051] [--sensors 200]

Each round, every sensor sends one value, all in one request. One sensor breaks. Its values then lie where
the forecasts gave them hardly any probability, and the example names it.
"""

import argparse

import numpy as np

from statecast.client import Client, Forecast, Session, SomeFailed, StatecastError
from statecast.testing import LocalServer

HISTORY, ROUNDS, BREAKS_AT = 96, 6, 3
# Of 200 sensors, about one in 25 rounds is this surprising by chance.
ALARM = 0.0001


def step(client: Client, pairs: list[tuple[Session, float]]) -> list[Forecast | StatecastError]:
    """Send one value of each sensor; a sensor that fails has its error, and the others count."""
    try:
        return list(client.step_many(pairs, horizon=1))
    except SomeFailed as failed:
        return [each for each in failed.results if isinstance(each, (Forecast, StatecastError))]


def run(target: str, sensors: int = 200) -> set[str]:
    """Return the ids of the sensors that raised an alarm; number 7 breaks."""
    random = np.random.default_rng(0)
    hours, phases = np.arange(HISTORY + ROUNDS), random.uniform(0, 24, sensors)
    values = 20 + 5 * np.sin(2 * np.pi * (hours + phases[:, None]) / 24) + random.normal(0, 0.2, (sensors, len(hours)))
    values[7, HISTORY + BREAKS_AT :] = 95.0
    alarms = set()
    with Client(target, timeout_seconds=60) as client:
        sessions = [client.session(f"sensor-{number}", time_to_live=3600) for number in range(sensors)]
        client.observe_many(zip(sessions, values[:, :HISTORY], strict=True))
        for at in range(HISTORY, HISTORY + ROUNDS):
            results = step(client, list(zip(sessions, values[:, at].tolist(), strict=True)))
            for session, result in zip(sessions, results, strict=True):
                if isinstance(result, StatecastError):
                    print(f"{session.id}: {result}")
                elif result.pit is not None and not ALARM < result.pit[0, 0] < 1 - ALARM:
                    alarms.add(session.id)
                    print(f"hour {at}: {session.id} is surprising, {result.pit[0, 0]:.5f}")
        for session in sessions:
            session.close()
    return alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="server to call; by default one that is started here")
    parser.add_argument("--sensors", type=int, default=200, help="number of sensors, at least 8")
    given = parser.parse_args()
    if given.target:
        run(given.target, given.sensors)
    else:
        with LocalServer() as server:
            run(server.target, given.sensors)


if __name__ == "__main__":
    main()
