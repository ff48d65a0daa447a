"""From observations to the inputs of an imported network: transformed, differenced, scaled, lagged."""

from math import pi

import torch
from torch import Tensor, nn

from ..frequency import YEAR_NS
from ..zones import DAY_NS
from .config import CALENDAR, ImportedConfig

_MONDAY_NS = 4 * DAY_NS  # after 1970-01-01, a Thursday
_CYCLES = {"day": (DAY_NS, 0), "week": (7 * DAY_NS, _MONDAY_NS), "year": (YEAR_NS, 0)}


class NetworkInputs(nn.Module):
    """The inputs of a network of quantities, and the way back from its outputs to quantities."""

    centres: Tensor
    scales: Tensor
    columns: Tensor
    lags: Tensor

    def __init__(self, config: ImportedConfig) -> None:
        super().__init__()
        names = (*config.targets, *config.covariates, *CALENDAR)
        self.targets, self.before, self.difference = len(config.targets), config.recent_rows, config.difference
        self._is_log = config.transform == "log1p"
        self._calendar = any(name in CALENDAR for name in config.features)
        columns = [names.index(name) for name in config.features]
        for name, values, dtype in (
            ("centres", config.centres, torch.float64),
            ("scales", config.scales, torch.float64),
            ("columns", columns, torch.int64),
            ("lags", config.feature_lags, torch.int64),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

    def forward(self, rows: Tensor, times: Tensor | None) -> Tensor:
        """Return the inputs of T steps.

        Args:
            rows: The recent observations, then those of the steps, float64 [B, recent + T, D + C].
            times: The times of the steps, int64 [B, T]; None if the model declares no frequency.

        Returns:
            The inputs, float32 [B, T, I]; 0 where a value is missing.
        """
        scaled = (self._differences(rows) - self.centres) / self.scales
        if self._calendar and times is not None:
            readings = nn.functional.pad(calendar(times), (0, 0, self.before, 0))
            scaled = torch.cat([scaled, readings], dim=-1)
        steps = torch.arange(self.before, rows.shape[1], device=rows.device)
        picked = scaled[:, steps.unsqueeze(1) - self.lags, self.columns]
        return picked.nan_to_num(0.0).float()

    def restore(self, outputs: Tensor, recent: Tensor) -> Tensor:
        """Return quantities for the outputs of a head.

        Args:
            outputs: Scaled quantiles, float64 [N, h, Q, D].
            recent: The observations before the first of these steps, float64 [N, recent, D + C].

        Returns:
            Quantiles, float64 [N, h, Q, D].
        """
        values = outputs * self.scales[: self.targets] + self.centres[: self.targets]
        if self.difference:
            values = self._added_up(values, self._transformed(recent[:, -self.difference :, : self.targets]))
        return torch.expm1(values) if self._is_log else values

    def _differences(self, rows: Tensor) -> Tensor:
        """Return the rows with their targets transformed and differenced; the first `difference` rows are NaN."""
        targets = self._transformed(rows[..., : self.targets])
        if self.difference:
            changes = targets[:, self.difference :] - targets[:, : -self.difference]
            targets = nn.functional.pad(changes, (0, 0, self.difference, 0), value=torch.nan)
        return torch.cat([targets, rows[..., self.targets :]], dim=-1)

    def _transformed(self, targets: Tensor) -> Tensor:
        return torch.log1p(targets) if self._is_log else targets

    def _added_up(self, changes: Tensor, before: Tensor) -> Tensor:
        """Add changes [N, h, Q, D] to the values `difference` steps earlier, the first of which are [N, d, D]."""
        values: list[Tensor] = []
        for step in range(changes.shape[1]):
            earlier = step - self.difference
            base = before[:, step].unsqueeze(1) if earlier < 0 else values[earlier]
            values.append(base + changes[:, step])
        return torch.stack(values, dim=1)


def calendar(times: Tensor) -> Tensor:
    """Return the readings of CALENDAR, in its order, for times in UTC, int64 [B, T]: float64 [B, T, 6]."""
    readings = []
    for period, start in _CYCLES.values():
        phase = ((times - start) % period).double() * (2 * pi / period)
        readings += [phase.sin(), phase.cos()]
    return torch.stack(readings, dim=-1)
