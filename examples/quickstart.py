"""A first session: append values, forecast, and see how surprising the next value is.

    .venv/bin/python examples/quickstart.py [--target localhost:50051]

Without --target, the example starts a server of its own.
"""

import argparse
import math

from statecast.client import Client
from statecast.testing import LocalServer


def run(target: str) -> float:
    """Forecast a day of an hourly temperature; return the surprise score of a value that does not fit."""
    temperatures = [15 + 5 * math.sin(2 * math.pi * hour / 24) for hour in range(24 * 7)]
    with Client(target) as client:
        session = client.session("roof", time_to_live=3600)
        session.observe(temperatures)
        forecast = session.forecast(horizon=24)
        for hour in (1, 6, 12, 24):
            low, median, high = (float(forecast.quantile(level)[hour - 1]) for level in (0.1, 0.5, 0.9))
            print(f"in {hour:2} hours {median:5.1f} degrees, with 80 % between {low:5.1f} and {high:5.1f}")
        receipt = session.observe(35.0)
        surprise = math.nan if receipt.pit is None else float(receipt.pit[0, 0])
        print(f"35 degrees now: the forecast gave a probability of {surprise:.3f} to lower values")
        session.close()
    return surprise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="server to call; by default one that is started here")
    target = parser.parse_args().target
    if target:
        run(target)
    else:
        with LocalServer() as server:
            run(server.target)


if __name__ == "__main__":
    main()
