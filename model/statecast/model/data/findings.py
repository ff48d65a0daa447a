"""What was found in a file beside plain series, and what was done about it."""

from dataclasses import dataclass

# One kind of finding each, in the order in which they are told: what there was and what became of it.
KINDS = {
    "ignored": "columns not used",
    "epoch": "times as numbers since 1970, recognised by their size",
    "converted": "times with a time zone, converted to UTC",
    "local": "times with a time zone, read as local time",
    "repeated_hour": "times that the clocks show twice, told apart by their order",
    "shifted": "times of days that do not begin at midnight; if they do so in their own zone, name it by --time-zone",
    "cut": "rows after the cut-off, left out",
    "empty": "series without a row up to the cut-off, dropped",
    "unsorted": "rows earlier than the row before them, sorted by time",
    "repeated": "rows that repeat another one, dropped",
    "conflicting": "rows replaced by a later row of the same time",
    "inserted": "missing times, filled with rows of missing values",
    "padding": "missing values before a series begins or after it ends, left out",
    "missing": "missing values",
    "missing_covariate": "missing values of a covariate",
    "all_missing": "series without any value of a target, dropped",
    "unobserved": "series in which it is never observed",
    "constant": "series in which it never changes",
    "outlier": "values far outside the range of all before them, as of a broken sensor; treated as missing",
    "moved": "series that are blank near their end; validated on earlier rows",
    "unvalidated": "series left out of validation: too short, or without enough values there or before",
    "unscored": "targets without a value in the rows validated on; nothing says how good their forecasts are",
}


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: A key of `KINDS`.
        count: How often, in what the kind counts: rows, values, times, columns or series.
        column: The column concerned; empty for a kind that concerns none.
        example: The first case, or the worst; may be empty.
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
    """Everything found, in the order of `KINDS`."""

    items: tuple[Finding, ...] = ()

    def count(self, kind: str, column: str | None = None) -> int:
        """Returns how often a kind was found, in one column or (None) in all of them together."""
        if kind not in KINDS:
            raise KeyError(kind)
        return sum(item.count for item in self.items if item.kind == kind and column in (None, item.column))

    def lines(self) -> tuple[str, ...]:
        """Returns one readable line for each finding."""
        return tuple(str(item) for item in self.items)


class FindingsCollector:
    """Adds findings up while a file is read."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], Finding] = {}

    def add(self, kind: str, count: int, example: str = "", column: str = "") -> None:
        """Counts some more of a kind in a column; the first example is kept, and a count of 0 adds nothing."""
        if count:
            before = self._items.get((kind, column), Finding(kind, 0, column, example))
            self._items[kind, column] = Finding(kind, before.count + int(count), column, before.example)

    def findings(self) -> Findings:
        """Returns everything added."""
        order = list(KINDS)
        return Findings(tuple(sorted(self._items.values(), key=lambda item: order.index(item.kind))))
