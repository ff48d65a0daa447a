"""Functions for the processes of a pool, which import them by name."""

from typing import Any


def give_back(value: Any) -> Any:
    return value


def throw(error: BaseException) -> None:
    raise error
