"""Findings: irregularities in a file, and how they were handled."""

from collections.abc import Iterable
from dataclasses import dataclass

# The kinds of findings, in the order of the report: each text names the irregularity and its treatment.
KINDS = {
    "ignored": "columns not used",
    "epoch": "times as numbers since 1970, recognised by their size",
    "converted": "times with a time zone, converted to UTC",
    "local": "times with a time zone, read as local time",
    "repeated_hour": "times that the clocks show twice, distinguished by their order",
    "shifted": "times of days that do not begin at midnight; if they do in their own time zone, name it by --time-zone",
    "cut": "rows after the cut-off, left out",
    "empty": "series without a row up to the cut-off, dropped",
    "unsorted": "rows out of order, sorted by time",
    "repeated": "rows that repeat another one, dropped",
    "conflicting": "rows replaced by a later row of the same time",
    "inserted": "missing times, filled with rows of missing values",
    "padding": "missing values before a series begins or after it ends, left out",
    "missing": "missing values",
    "missing_covariate": "missing values of a covariate",
    "all_missing": "series without any value of a target, dropped",
    "unobserved": "series without any value",
    "constant": "series with a constant value",
    "outlier": "values 30 times as far out as any before, as from a broken sensor; missing for validation",
    "moved": "series without values near their end, validated on earlier rows",
    "unvalidated": "series left out of validation: too short for --validation-rows, or too few values",
    "unscored": "targets without a value in the validation rows, not scored",
}


@dataclass(frozen=True)
class Finding:
    """One kind of irregularity, found in a file once or more.

    Attributes:
        kind: A key of `KINDS`.
        count: The number of cases, in the unit of the kind: rows, values, times, columns or series.
        column: The affected column; empty if the kind does not concern a column.
        example: The first case or the worst one; may be empty.
    """

    kind: str
    count: int
    column: str = ""
    example: str = ""

    def __str__(self) -> str:
        column = f"column {self.column!r}, " if self.column else ""
        example = f" ({self.example})" if self.example else ""
        return f"{column}{KINDS[self.kind]}: {self.count}{example}"


@dataclass(frozen=True)
class Findings:
    """All findings of a file, in the order of `KINDS`."""

    items: tuple[Finding, ...] = ()

    def count(self, kind: str, column: str | None = None) -> int:
        """Return the number of cases of a kind in one column, or in all columns together (None)."""
        if kind not in KINDS:
            raise KeyError(kind)
        return sum(item.count for item in self.items if item.kind == kind and column in (None, item.column))

    def extended(self, items: Iterable[Finding]) -> "Findings":
        """Return these findings and others."""
        return Findings((*self.items, *items))

    def lines(self) -> tuple[str, ...]:
        """Return one readable line for each finding."""
        return tuple(str(item) for item in self.items)


class FindingsCollector:
    """A collector that adds findings up while a file is read."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], Finding] = {}

    def add(self, kind: str, count: int, example: str = "", column: str = "") -> None:
        """Add cases of a kind in a column. The first example is kept; a count of 0 adds nothing."""
        if count:
            before = self._items.get((kind, column), Finding(kind, 0, column, example))
            self._items[kind, column] = Finding(kind, before.count + int(count), column, before.example)

    def findings(self) -> Findings:
        """Return all findings added so far."""
        order = list(KINDS)
        return Findings(tuple(sorted(self._items.values(), key=lambda item: order.index(item.kind))))
