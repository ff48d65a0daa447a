"""The head of an imported network: linear layers, and how their outputs are read as a distribution."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import ImportedConfig

ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda values: values,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
}
_POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {"log": torch.exp, "softplus": functional.softplus}


class ImportedHead(nn.Module):
    """Linear layers with activations, from the top layer's output to the numbers of each step and target."""

    levels: Tensor

    def __init__(self, config: ImportedConfig) -> None:
        super().__init__()
        sizes = (config.projection or config.hidden_size, *config.head_sizes)
        self.linear = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self._activations = [ACTIVATION[name] for name in config.head_activations]
        self._shape = config.head_horizon, len(config.targets), config.numbers_per_value
        self._output, self._spread = config.output, config.spread
        levels = torch.tensor(config.quantile_levels, dtype=torch.float64)
        self.register_buffer("levels", levels, persistent=False)

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the head's numbers, float32 [N, horizon, D, K], for outputs [N, H]."""
        outputs = self._activations[0](outputs)
        for linear, activation in zip(self.linear, self._activations[1:], strict=True):
            outputs = activation(linear(outputs))
        return outputs.view(len(outputs), *self._shape)

    def quantiles(self, numbers: Tensor) -> Tensor:
        """Return ascending quantiles in scaled units, float64 [N, horizon, Q, D], for what `forward` returns."""
        numbers = numbers.double()
        if self._output == "normal":
            deviation = self._deviation(numbers[..., 1:])
            numbers = numbers[..., :1] + deviation * torch.special.ndtri(self.levels)
        elif self._output == "quantile":
            numbers = numbers.sort(dim=-1).values
        return numbers.transpose(2, 3)

    def _deviation(self, spread: Tensor) -> Tensor:
        function, _, what = self._spread.rpartition("_")
        positive = _POSITIVE[function](spread) if function else spread.clamp(min=0.0)
        return positive.sqrt() if what == "variance" else positive
