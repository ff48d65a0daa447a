"""Errors say whether and when the same request can be sent again."""

import pytest

from statecast.service import errors
from statecast.service.errors import RETRY_AFTER_SECONDS, Overloaded, RetryableError, Unavailable, quoted
from statecast.v1.reasons import Reason


def test_a_long_name_is_shortened() -> None:
    assert quoted("böiler") == "'böiler'"
    assert quoted("x" * 64) == repr("x" * 64)
    assert quoted("x" * 65) == repr("x" * 64 + "...")


@pytest.mark.parametrize("reason", list(RETRY_AFTER_SECONDS))
def test_every_reason_to_try_again_has_its_delay(reason: Reason) -> None:
    for kind in (Overloaded, Unavailable):
        assert kind("m", reason).retry_after_seconds == RETRY_AFTER_SECONDS[reason]
        assert kind("m", reason, 7.0).retry_after_seconds == 7.0


def test_other_errors_have_none() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.ServiceError)]
    final = {each.__name__ for each in kinds if issubclass(each, RetryableError)}
    assert final == {"RetryableError", "Overloaded", "Unavailable"}
