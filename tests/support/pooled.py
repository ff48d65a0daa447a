"""What processes of a pool are asked to do; they import it by name."""

from typing import Any


def give_back(value: Any) -> Any:
    return value


def throw(error: BaseException) -> None:
    raise error
