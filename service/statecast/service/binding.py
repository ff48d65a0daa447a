"""What binds a session to a version of its model, other than its model's policy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Binding:
    """A session's alias; without one, its pin to the version that its caller named.

    Attributes:
        alias: The alias that the session follows; empty to stay on its version.
        revision: That of the policies by which it came to its version: no server with older ones may move it back.
    """

    alias: str = ""
    revision: int = 0
