"""The demo's live table: one row per session."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One session's row of the table."""

    session: str
    step: int
    tag: str
    value: float
    median: float
    band: tuple[float, float]
    milliseconds: float

    def __str__(self) -> str:
        low, high = self.band
        return f"{self.session} #{self.step}: {self.value:.1f}, next {self.median:.1f} ({low:.1f}..{high:.1f})"


def table(rows: Sequence[Row], units: Mapping[str, str]) -> Table:
    """Return the rows as a table for the terminal."""
    result = Table(header_style="bold", expand=False)
    for heading in ("session", "step", "version tag", "observed", "next (median)", "80% band", "answer"):
        result.add_column(heading, justify="left" if heading in ("session", "version tag") else "right")
    for row in rows:
        low, high = row.band
        result.add_row(
            f"{escape(row.session)} [dim]{units[row.session]}[/]",
            str(row.step),
            f"[dim]{row.tag}[/]",
            f"{row.value:,.1f}",
            f"[cyan]{row.median:,.1f}[/]",
            f"{low:,.1f} .. {high:,.1f}",
            f"{row.milliseconds:.1f} ms",
        )
    return result
