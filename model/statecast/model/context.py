"""What a forecast needs of sessions, each as it stood at some step."""

from dataclasses import dataclass

from torch import Tensor

from .naive import Statistics


@dataclass(frozen=True)
class Context:
    """N sessions, each as it stood at some step.

    Attributes:
        output: The recurrent layers' output, float32 [N, H].
        statistics: The naive forecasters' statistics, [N, ...].
        history: Raw values of B sessions, NaN where missing, float64 [B, S, D].
        rows: Which of them each is, int64 [N].
        ends: How many of its values lie before the next step, int64 [N].
        stretches: How its intervals have adapted, float64 [N, D, checks, Q]; None if they do not.
        categories: Its static categories, int64 [N, S]; None if all are unknown.
    """

    output: Tensor
    statistics: Statistics
    history: Tensor
    rows: Tensor
    ends: Tensor
    stretches: Tensor | None
    categories: Tensor | None = None

    @property
    def size(self) -> int:
        """How many sessions."""
        return self.output.shape[0]
