"""Read columns of CSV and Parquet files."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.csv as arrow_csv  # type: ignore[import-untyped]
import pyarrow.parquet as parquet  # type: ignore[import-untyped]

from ..errors import DataError
from .columns import other_delimiter

# A line must fit into a block, and the header of a wide file is a long line.
_BLOCK_BYTES = 2**24
# Arrow quotes the whole line that it cannot read.
_LONGEST_REASON = 300


class Source(Protocol):
    """A file whose column names are known."""

    names: tuple[str, ...]

    def read(self, names: Sequence[str]) -> dict[str, Any]:
        """Read some of the columns as chunked Arrow arrays.

        Raises:
            DataError: The file is damaged.
        """


class CsvSource:
    """A CSV file with a header line, possibly compressed by gzip; every column is text."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self._path, self._delimiter, self._hint = path, delimiter, ""
        with _refused(path), self._open() as stream:
            header = stream.read(_BLOCK_BYTES).partition(b"\n")[0].decode(errors="replace")
            if delimiter not in header:
                self._hint = other_delimiter(header)
        with _refused(path, self._hint), self._open() as stream:
            options = arrow_csv.ReadOptions(block_size=_BLOCK_BYTES)
            parsing = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
            self.names = tuple(arrow_csv.open_csv(stream, options, parsing).schema.names)

    def read(self, names: Sequence[str]) -> dict[str, Any]:
        """Read some of the columns; see `Source.read`."""
        with _refused(self._path, self._hint), self._open() as stream:
            table = arrow_csv.read_csv(
                stream,
                arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
                # In a file of one column an empty line is a missing value.
                arrow_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, ignore_empty_lines=len(self.names) > 1
                ),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.names, pa.string()), include_columns=list(names)
                ),
            )
        return {name: table.column(name) for name in names}

    def _open(self) -> Any:
        compression = "gzip" if self._path.suffix.lower() == ".gz" else None
        return pa.input_stream(str(self._path), compression=compression)


class ParquetSource:
    """A Parquet file, which needs no delimiter."""

    def __init__(self, path: Path, delimiter: str) -> None:
        del delimiter
        self._path = path
        with _refused(path):
            self.names = tuple(parquet.read_schema(path).names)

    def read(self, names: Sequence[str]) -> dict[str, Any]:
        """Read some of the columns; see `Source.read`."""
        with _refused(self._path), parquet.ParquetFile(self._path) as file:
            table = file.read(columns=list(names))
            return {name: table.column(name) for name in names}


_SOURCES: dict[str, Callable[[Path, str], Source]] = {
    ".csv": CsvSource,
    ".csv.gz": CsvSource,
    ".parquet": ParquetSource,
    ".pq": ParquetSource,
}


def _ending(path: Path) -> str:
    return next((ending for ending in _SOURCES if path.name.lower().endswith(ending)), "")


def stem(path: Path) -> str:
    """Return a file's name without the ending of its format."""
    return path.name[: len(path.name) - len(_ending(path))]


def open_source(path: Path, delimiter: str = ",") -> Source:
    """Open a file according to its ending; the delimiter applies to CSV files.

    Raises:
        DataError: The ending is not .csv, .csv.gz, .parquet or .pq, or the file cannot be read.
    """
    ending = _ending(path)
    if not ending:
        raise DataError(f"{path}: expected a file ending in {', '.join(_SOURCES)}")
    return _SOURCES[ending](path, delimiter)


@contextmanager
def _refused(path: Path, hint: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise DataError(f"{path} cannot be read: {reason[:_LONGEST_REASON]}{hint}") from error
