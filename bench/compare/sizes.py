"""Sizes of the measurements."""

from dataclasses import dataclass

HORIZON = 24
FRAME_SESSIONS = 256
CONCURRENCIES = (1, 16, 64, 256)
CATCH_UP_STEPS = 10_000


@dataclass(frozen=True)
class Sizes:
    """Durations and counts of the measurements.

    Attributes:
        warm_seconds: Seconds of load before a measurement.
        seconds: Duration of a measurement.
        floor_seconds: Duration of one floor's measurement.
        catch_up_calls: Calls of `CATCH_UP_STEPS` observations each.
        history_steps: Steps of the long session.
        history_blocks: Number of turns of the short and the long session.
        history_calls: Calls of one turn.
        sessions: Sessions in Redis in the stage of many sessions.
        groups: Frames in flight, each of `FRAME_SESSIONS` sessions of its own.
    """

    warm_seconds: float = 2.0
    seconds: float = 8.0
    floor_seconds: float = 3.0
    catch_up_calls: int = 20
    history_steps: int = 1_000_000
    history_blocks: int = 20
    history_calls: int = 150
    sessions: int = 100_000
    groups: int = 3


NORMAL = Sizes()
QUICK = Sizes(
    warm_seconds=0.5,
    seconds=1.5,
    floor_seconds=0.7,
    catch_up_calls=5,
    history_steps=100_000,
    history_blocks=7,
    history_calls=60,
    sessions=20_000,
)
