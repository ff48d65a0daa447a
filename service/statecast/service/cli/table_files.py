"""Files of tables and pictures that commands write, and times in them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from statecast.model.data import Panel

TABLES, PICTURES = (".csv", ".parquet"), (".png", ".pdf", ".svg")


class NewFile(click.Path):
    """A file to write, of one of some kinds."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self._kinds = kinds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse other kinds, and folders that do not exist, before the work begins."""
        path = Path(str(super().convert(value, param, ctx)))
        if path.suffix not in self._kinds:
            self.fail(f"{path.name} must end in {' or '.join(self._kinds)}.", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"the folder {path.parent} does not exist.", param, ctx)
        return path


def write_table(table: "pd.DataFrame", path: Path) -> None:
    """Write a table as .csv or .parquet."""
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)


def shown_times(times: Any, panel: "Panel") -> "pd.DatetimeIndex":
    """Return times as the file has them: days without a zone, shorter steps in the zone that was named, or in UTC.

    Args:
        times: Times on the panel's clock, in nanoseconds, int64 [N].
        panel: The panel, which has times.
    """
    import pandas as pd

    from statecast.model.frequency import Frequency

    shown = pd.DatetimeIndex(times.astype("datetime64[ns]"))
    if Frequency.parse(panel.frequency).counts_days or not panel.time_zone:
        return shown
    return shown.tz_localize("UTC").tz_convert(panel.time_zone)
