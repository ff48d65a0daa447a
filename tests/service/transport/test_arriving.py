"""The limit to what is still arriving, shared by the callers."""

import pytest

from statecast.service.errors import Overloaded
from statecast.service.transport.arriving import Arriving
from statecast.v1.reasons import Reason


def test_a_caller_alone_gets_four_fifths() -> None:
    arriving = Arriving(1000)
    arriving.change("a", 800)
    with pytest.raises(Overloaded, match="open calls hold") as caught:
        arriving.change("a", 1)
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.retry_after_seconds
    arriving.change("b", 160)  # four fifths of the rest
    with pytest.raises(Overloaded):
        arriving.change("b", 1)


def test_what_is_refused_does_not_count_and_what_is_read_no_longer_does() -> None:
    arriving = Arriving(1000)
    with pytest.raises(Overloaded):
        arriving.change("a", 801)
    arriving.change("a", 800)
    arriving.change("a", -800)
    arriving.change("b", 800)
