"""The layout of a file: the roles of its columns and the format of its values."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import DataError
from ..zones import Zone
from .columns import listed, other_delimiter

ID_COLUMN = "unique_id"
TABS = {"tab": "\t", "\\t": "\t"}


@dataclass(frozen=True)
class Roles:
    """The columns that are read from one file.

    Attributes:
        unique_id: The column of series ids; None if the file is a single series or a wide file.
        time: The column of times; None if only position counts.
        targets: The columns of targets; in a wide file, the columns of series.
        covariates: The columns of covariates.
        categories: The columns of categories.
    """

    unique_id: str | None
    time: str | None
    targets: tuple[str, ...]
    covariates: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """The numeric columns."""
        return self.targets + self.covariates

    @property
    def used(self) -> tuple[str, ...]:
        """All columns with a role, without repetitions."""
        single = [name for name in (self.unique_id, self.time) if name is not None]
        return tuple(dict.fromkeys([*single, *self.values, *self.categories]))


@dataclass(frozen=True)
class Layout:
    """The roles of a file's columns, by default those of Nixtla's long format: unique_id, ds, y.

    Attributes:
        unique_id: The column of series ids. None uses the column "unique_id" if there is one; otherwise the file is a
            single series.
        time: The column of times; None if only position counts, with rows in the order of the file.
        targets: The columns to forecast; for a wide file, the one name of the values of all series.
        covariates: Numeric columns whose future is known.
        categories: Columns with one text for each series.
        wide: Whether every column except the time is a series, with its id in the header.
        time_format: The format of times, as for `strptime`; None for ISO 8601.
        time_zone: The zone of times that name none, and the zone whose days count: an IANA name or a fixed offset.
            Empty if unknown; then times that name none are in UTC.
        delimiter: The delimiter of a CSV file's columns: one character, or "tab".
        decimal: The decimal point of numbers written as text, such as "." or ",".
        thousands: The thousands separator of such numbers; empty for none.

    Raises:
        TimeZoneError: There is no such time zone.
        DataError: There is no target, a column has two roles, or a wide file has more than times and series.
    """

    unique_id: str | None = None
    time: str | None = "ds"
    targets: tuple[str, ...] = ("y",)
    covariates: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    wide: bool = False
    time_format: str | None = None
    time_zone: str = ""
    delimiter: str = ","
    decimal: str = "."
    thousands: str = ""

    def __post_init__(self) -> None:
        for role in ("targets", "covariates", "categories"):
            object.__setattr__(self, role, tuple(getattr(self, role)))
        if not self.targets:
            raise DataError("targets: expected one or more columns")
        self._check_signs()
        if self.time_zone:
            Zone.parse(self.time_zone)
            if self.time is None:
                raise DataError("time_zone: there is no column of times")
        if self.wide:
            if self.unique_id is not None or self.covariates or self.categories or len(self.targets) > 1:
                raise DataError("a wide file has one target, and neither covariates nor categories nor a column of ids")
            return
        # An id may be a category too: then a model learns the specifics of each series.
        given = [*self.targets, *self.covariates, *({*self.categories, self.unique_id} - {None}), self.time]
        for name in (*given, *self.categories):
            if given.count(name) > 1 or self.categories.count(str(name)) > 1:
                raise DataError(f"column {name!r} is given more than one role")

    def _check_signs(self) -> None:
        object.__setattr__(self, "delimiter", TABS.get(self.delimiter, self.delimiter))
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n' or not self.delimiter.isascii():
            raise DataError(f"delimiter: expected one character such as ';', or tab; got {self.delimiter!r}")
        for name, sign, is_optional in (("decimal", self.decimal, False), ("thousands", self.thousands, True)):
            is_sign = len(sign) == 1 and not sign.isalnum() and sign not in "+-"
            if not is_sign and not (is_optional and not sign):
                raise DataError(f"{name}: expected one sign such as '.' or ',', got {sign!r}")
        if self.decimal == self.thousands:
            raise DataError(f"thousands: {self.thousands!r} is the decimal point, too")

    def resolve(self, names: Sequence[str]) -> Roles:
        """Assign roles to the columns of a file.

        Raises:
            DataError: A column is absent, two columns have the same name, or a series of a wide file has no name.
        """
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"there is more than one column {twice!r}")
        if self.wide:
            roles = Roles(None, self.time, tuple(name for name in names if name != self.time))
            if not roles.targets:
                raise DataError(f"there is no series beside the column of times; the columns are {listed(names)}")
            if "" in roles.targets:
                raise DataError(f"column {names.index('') + 1} has no name to be the id of a series")
        else:
            unique_id = self.unique_id
            if unique_id is None and ID_COLUMN in names and ID_COLUMN not in (*self.targets, *self.covariates):
                unique_id = ID_COLUMN
            roles = Roles(unique_id, self.time, self.targets, self.covariates, self.categories)
        for name in roles.used:
            if name not in names:
                hint = "; say which one holds the times, or that none does" if name == self.time else ""
                if len(names) == 1:
                    hint = other_delimiter(names[0]) or hint
                raise DataError(f"there is no column {name!r}; the columns are {listed(names)}{hint}")
        return roles
