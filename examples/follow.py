"""Follow a file that another program appends to, such as a log of readings, and forecast after each line.

    .venv/bin/python examples/follow.py readings.csv [--target localhost:50051]

Each line is a name and a value, "pump-3,20.7". The number of the last line that counted is kept in the session's own
step, so after a restart the example goes on with the first line that the server does not have yet.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from statecast.client import Client, Forecast, NotFound, Session
from statecast.testing import LocalServer

POLL_SECONDS = 0.2


def lines(path: Path, quiet_seconds: float) -> Iterator[str]:
    """Yield the complete lines of a file as they come, until there was none for so long."""
    with path.open() as file:
        part, heard_at = "", time.monotonic()
        while time.monotonic() - heard_at < quiet_seconds:
            part += (more := file.readline())
            if part.endswith("\n"):
                yield part.strip()
                part = ""
            if more:
                heard_at = time.monotonic()
            else:
                time.sleep(POLL_SECONDS)


def steps_taken(session: Session) -> int:
    """Return how many values the server has of a session."""
    try:
        return session.info().version.step
    except NotFound:
        return 0


def run(path: Path, target: str, quiet_seconds: float = 10.0) -> Counter[str]:
    """Send the lines that the server does not have yet; return how many of each name were sent."""
    sessions: dict[str, Session] = {}
    known: dict[str, int] = {}
    seen: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    with Client(target) as client:

        def pairs() -> Iterator[tuple[Session, float]]:
            for line in lines(path, quiet_seconds):
                name, _, value = line.partition(",")
                if name not in sessions:
                    sessions[name] = client.session(f"{path.stem}/{name}")
                    known[name] = steps_taken(sessions[name])
                seen[name] += 1
                if seen[name] > known[name]:
                    sent[name] += 1
                    yield sessions[name], float(value)

        for session, result in client.stream(pairs(), horizon=12):
            if isinstance(result, Forecast):
                print(f"{session.id}: {result.median[0]:.2f} next, {result.median[-1]:.2f} in 12 steps")
            else:
                print(f"{session.id}: {result}")
    return sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="file to follow")
    parser.add_argument("--target", help="server to call; by default one that is started here")
    parser.add_argument("--quiet-seconds", type=float, default=10.0, help="end after so long without a new line")
    given = parser.parse_args()
    if given.target:
        run(given.file, given.target, given.quiet_seconds)
    else:
        with LocalServer() as server:
            run(given.file, server.target, given.quiet_seconds)


if __name__ == "__main__":
    main()
