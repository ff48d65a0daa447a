"""A request that the engine reaches only after its deadline."""

import time

from support.engines import MakeEngine, observe, one, refused, version_of

from statecast.service.engine.request import Outcome
from statecast.service.errors import DeadlinePassed
from statecast.v1.reasons import Reason


def test_what_is_come_to_too_late_appends_nothing(make_engine: MakeEngine) -> None:
    engine, now = make_engine(), time.monotonic()
    one(engine, observe("a", 1.0))
    requests = [observe("a", 2.0, deadline=now - 1), observe("a", 3.0, deadline=now + 1000)]
    late, in_time = engine.run({"a": requests})["a"]
    assert refused(late, DeadlinePassed).reason is Reason.DEADLINE_PASSED
    assert isinstance(in_time, Outcome)
    assert in_time.version == version_of([1.0, 3.0])
