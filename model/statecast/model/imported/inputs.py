"""From observations to the inputs of an imported network: transformed, differenced, scaled, lagged."""

from math import pi

import torch
from torch import Tensor, nn

from ..frequency import YEAR_NS
from ..zones import DAY_NS
from .config import CALENDAR, ImportedConfig

_MONDAY_NS = 4 * DAY_NS  # after 1970-01-01, a Thursday
# A variance below this share of the mean square is rounding noise.
_FLAT = 1e-12
_CYCLES = {"day": (DAY_NS, 0), "week": (7 * DAY_NS, _MONDAY_NS), "year": (YEAR_NS, 0)}


class NetworkInputs(nn.Module):
    """The inputs of a network of quantities, and the way back from its outputs to quantities."""

    centres: Tensor
    scales: Tensor
    columns: Tensor
    lags: Tensor
    owners: Tensor
    places: Tensor

    def __init__(self, config: ImportedConfig) -> None:
        super().__init__()
        names = (*config.targets, *config.covariates, *CALENDAR)
        self.targets, self.before, self.difference = len(config.targets), config.recent_rows, config.difference
        self._is_log = config.transform == "log1p"
        self._per_window = config.per_window
        self._calendar = any(name in CALENDAR for name in config.features)
        columns = [names.index(name) for name in config.features]
        for name, values, dtype in (
            ("centres", (*config.centres, *(0.0 for _ in CALENDAR)), torch.float64),
            ("scales", (*config.scales, *(1.0 for _ in CALENDAR)), torch.float64),
            ("columns", columns, torch.int64),
            ("lags", config.feature_lags, torch.int64),
            ("owners", _owners(config), torch.int64),
            ("places", _places(config), torch.int64),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

    def forward(self, rows: Tensor, times: Tensor | None, statistics: Tensor | None) -> Tensor:
        """Return the inputs of T steps.

        Args:
            rows: The recent observations, then those of the steps, float64 [B, recent + T, D + C].
            times: The times of the steps, int64 [B, T]; None if the model declares no frequency.
            statistics: What `running` returns after each of the steps, [B, T, 4, D]; None if scales are fixed.

        Returns:
            The inputs, float32 [B, T, I]; 0 where a value is missing. Those that each window scales for itself are
            float64, and NaN where a value is missing.
        """
        columns = self.differences(rows)
        if self._calendar:
            readings = calendar(times) if times is not None else rows.new_zeros(0)
            columns = torch.cat([columns, nn.functional.pad(readings, (0, 0, self.before, 0))], dim=-1)
        steps = torch.arange(self.before, rows.shape[1], device=rows.device)
        centres, scales = self._units(statistics)
        picked = columns[:, steps.unsqueeze(1) - self.lags, self.columns]
        scaled = (picked - centres[..., self.columns]) / scales[..., self.columns]
        return scaled if self._per_window else scaled.nan_to_num(0.0).float()

    def window_units(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of each target in windows, float64 [N, W, I]: two tensors [N, D].

        The deviation is 1 where all values are equal.
        """
        own = windows[..., self.places]
        seen = ~own.isnan()
        count = seen.sum(dim=1)
        means = own.nan_to_num(0.0).sum(dim=1) / count.clamp(min=1)
        squares = torch.where(seen, own - means.unsqueeze(1), 0.0).square().sum(dim=1)
        variances = squares / (count - int(self._per_window == "ddof1")).clamp(min=1)
        is_flat = variances <= (_FLAT * means).square()
        return means, torch.where(is_flat, 1.0, variances).sqrt()

    def of_windows(self, windows: Tensor, units: tuple[Tensor, Tensor]) -> Tensor:
        """Return windows [N, W, I] scaled by their units, as inputs, float32; 0 where a value is missing."""
        means, deviations = units
        centres = nn.functional.pad(means, (0, 1))[:, None, self.owners]
        scales = nn.functional.pad(deviations, (0, 1), value=1.0)[:, None, self.owners]
        return ((windows - centres) / scales).nan_to_num(0.0).float()

    def restore(
        self, outputs: Tensor, recent: Tensor, statistics: Tensor | None, window_units: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Return quantities for the outputs of a head.

        Args:
            outputs: Scaled quantiles, float64 [N, h, Q, D].
            recent: The observations before the first of these steps, float64 [N, recent, D + C].
            statistics: What `running` returns after the last of them, [N, 4, D]; None if scales are fixed.
            window_units: Mean and deviation of each session's window, [N, D]; None if it is not scaled for itself.

        Returns:
            Quantiles, float64 [N, h, Q, D].
        """
        if window_units is None:
            window_units = self._units(statistics)
        centres, scales = (units[..., : self.targets] for units in window_units)
        if centres.dim() > 1:
            centres, scales = centres[:, None, None], scales[:, None, None]
        values = outputs * scales + centres
        if self.difference:
            values = self._added_up(values, self._transformed(recent[:, -self.difference :, : self.targets]))
        return torch.expm1(values) if self._is_log else values

    def _units(self, statistics: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return centre and scale of each target, covariate and reading of the calendar, [..., D + C + readings]."""
        if statistics is None:
            return self.centres, self.scales
        own = units_of(statistics)
        fixed = self.centres[self.targets :], self.scales[self.targets :]
        centres, scales = (
            torch.cat([running, rest.expand(*running.shape[:-1], -1)], dim=-1)
            for running, rest in zip(own, fixed, strict=True)
        )
        return centres, scales

    def differences(self, rows: Tensor) -> Tensor:
        """Return rows [B, T, D + C] with their targets transformed and differenced; the first `difference` are NaN."""
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


def _owners(config: ImportedConfig) -> list[int]:
    """Return the target of each input by number, or the number of targets for another input."""
    return [config.targets.index(name) if name in config.targets else len(config.targets) for name in config.features]


def _places(config: ImportedConfig) -> list[int]:
    """Return the position of each target among the inputs, if windows are scaled for themselves."""
    now = [name if not lag else "" for name, lag in zip(config.features, config.feature_lags, strict=True)]
    return [now.index(target) for target in config.targets] if config.per_window else []


def running(statistics: Tensor, values: Tensor) -> Tensor:
    """Return the statistics of all values so far: before the first one, and after each.

    Args:
        statistics: Those before: the number of values, the first of them, and the sums of the distances to it and of
            their squares, float64 [B, 4, D].
        values: The next values, NaN where missing, float64 [B, T, D].

    Returns:
        Statistics, float64 [B, T + 1, 4, D].
    """
    seen = ~values.isnan()
    if not values.shape[1]:
        return statistics.unsqueeze(1)
    earliest = seen.to(torch.uint8).argmax(dim=1, keepdim=True)
    count, first, total, squares = (each.unsqueeze(1) for each in statistics.unbind(dim=1))
    origin = torch.where(count > 0, first, values.gather(1, earliest))
    distances = torch.where(seen, values - origin, 0.0)
    counts = count + seen.cumsum(dim=1)
    origins = torch.where(counts > 0, origin, 0.0)
    after = torch.stack([counts, origins, total + distances.cumsum(1), squares + distances.square().cumsum(1)], dim=2)
    return torch.cat([statistics.unsqueeze(1), after], dim=1)


def units_of(statistics: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation for statistics [..., 4, D]; the latter is 1 while all values are equal."""
    count, first, total, squares = statistics.unbind(dim=-2)
    count = count.clamp(min=1)
    offset = total / count
    variance = squares / count - offset.square()
    is_flat = variance <= _FLAT * (squares / count)
    return first + offset, torch.where(is_flat, 1.0, variance.clamp(min=0.0)).sqrt()


def calendar(times: Tensor) -> Tensor:
    """Return the readings of CALENDAR, in its order, for times in UTC, int64 [B, T]: float64 [B, T, 6]."""
    readings = []
    for period, start in _CYCLES.values():
        phase = ((times - start) % period).double() * (2 * pi / period)
        readings += [phase.sin(), phase.cos()]
    return torch.stack(readings, dim=-1)
