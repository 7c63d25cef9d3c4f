"""Reads delimited text from other people's files.

Cells are read as text and then converted to numbers and times, so that a bad cell costs only its row, not the file.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from stream.adapters.column_names import DECIMAL_COMMA
from stream.adapters.csv_rows import split_header
from stream.adapters.table_builder import Piece, Progress, TableBuilder

NO_TIME: Final = int(np.iinfo(np.int64).min)
BLOCK_BYTES: Final = 8 << 20  # a row must fit; the longest trips of Porto are about 100 KB
HEADER_BYTES: Final = 1 << 20  # a first line must fit
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PACKED: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
# A quote opens a cell only at the cell's start, as for Arrow: elsewhere it is a character, and two inside quotes are
# one. The pattern captures the closing quote of each quoted cell, empty if there is none. It matches from left to
# right, so that nothing inside quotes begins a cell.
_QUOTED: Final = re.compile(rb'(?:^|[,;\t|])"[^"]*(?:""[^"]*)*("?)')


def header(path: Path) -> list[str]:
    """Returns the first line's cells. Raises ValueError for a file that is not delimited text."""
    with _explain_errors(path):
        # Only that line is parsed: an error in a later row must not occur here, but later, where it costs only its row.
        first = _first_line(path)
        return list(pa.csv.read_csv(pa.BufferReader(first), parse_options=_parsing(first)).column_names)


def delimiter_of(path: Path) -> str:
    """Returns what separates the cells of a file whose first line names the columns. Raises as `header`."""
    with _explain_errors(path):
        return str(_parsing(_first_line(path)).delimiter)


def _first_line(path: Path) -> bytes:
    with _open(path) as (stream, _):
        lines = stream.read(HEADER_BYTES).splitlines(keepends=True)
    return next((line for line in lines if line.strip()), b"")


def _parsing(line: bytes, **more: Any) -> Any:
    delimiter, _ = split_header(line.decode("utf-8", "replace"))
    return pa.csv.ParseOptions(delimiter=delimiter, **more)


def gather(
    found: TableBuilder,
    path: Path,
    columns: Sequence[str],
    piece_of: Callable[[Any], Piece],
    progress: Progress,
    *,
    named: bool = False,
    skip: int = 0,
) -> None:
    """Adds a file's rows to `found`, in batches of text columns. A row with an unreadable cell is counted there.

    `named`: the first line names the columns, of which `columns` are read, and cells may be quoted. Otherwise `columns`
    are all columns of the file, after `skip` lines, and a quote is a character. A row is one line; quotes cannot
    contain a line's end. Packed files (.zip, .gz, .zst, .bz2) are unpacked. Raises ValueError, which names the file,
    and also the line if no line is readable: then the file has another format.
    """
    rows, before = 0, found.dropped["unreadable_row"]
    for sheet in sheets(path, columns, found.dropped, progress, named=named, skip=skip):
        rows += found.add(piece_of(sheet))
    if rows == 0 and found.dropped["unreadable_row"] > before:
        line = 2 if named else skip + 1
        raise ValueError(f"{path}, line {line}: expected {', '.join(columns)}, and neither this nor any line is that")


def sheets(
    path: Path, columns: Sequence[str], dropped: Counter[str], progress: Progress, *, named: bool, skip: int = 0
) -> Iterator[Any]:
    """Yields a file's rows as batches of text columns, for `gather`. `dropped` counts rows of another length."""

    def skip_ragged(row: Any) -> str:
        dropped["unreadable_row"] += 1
        return "skip"

    reading = pa.csv.ReadOptions(
        use_threads=False, block_size=BLOCK_BYTES, skip_rows=skip, column_names=None if named else list(columns)
    )
    with _explain_errors(path):
        parsing = _parsing(_first_line(path) if named else b"", invalid_row_handler=skip_ragged)
    parsing.quote_char = '"' if named else False
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), include_columns=list(columns))
    size = max(1, path.stat().st_size)
    with _explain_errors(path), _open(path) as (stream, raw):
        if named:
            stream = pa.PythonFile(_ClosedQuotes(stream, dropped), mode="r")
        try:
            reader = pa.csv.open_csv(stream, reading, parsing, convert)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error) and not named:  # a track without points, as T-Drive has some
                return
            raise
        with reader:
            for batch in reader:
                yield batch
                progress(min(1.0, raw.tell() / size))


class _ClosedQuotes(io.RawIOBase):
    """A stream without the lines that leave a quote open: for Arrow, such a quote would contain all later lines."""

    def __init__(self, stream: Any, dropped: Counter[str]) -> None:
        self._stream, self._dropped, self._rest = stream, dropped, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Returns whole lines, at most `size` bytes of them; nothing at the end."""
        while fresh := self._stream.read(size - len(self._rest)):
            *lines, self._rest = (self._rest + fresh).splitlines(keepends=True)
            if len(self._rest) >= size:  # raised as an error of Arrow, so that `_explain_errors` names the file
                raise pa.ArrowInvalid(f"a line of {size:,} bytes or more: is a line's end or a closing quote missing?")
            if closed := self._keep_closed(lines):
                return closed
        last, self._rest = self._rest, b""
        return self._keep_closed([last])

    def _keep_closed(self, lines: list[bytes]) -> bytes:
        closed = [line for line in lines if not leaves_open(line)]
        self._dropped["unreadable_row"] += len(lines) - len(closed)
        return b"".join(closed)


def leaves_open(line: bytes) -> bool:
    """Returns whether a quote that the line opens is not closed in it."""
    return b'"' in line and b"" in _QUOTED.findall(line)


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Turns errors of Arrow and the unpackers into a ValueError, in one line that names the file."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        if error.errno is not None:  # an error of the system, which names the file; Arrow's errors do not
            raise
        raise ValueError(f"{path}: {error}") from error


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, BinaryIO]]:
    """Yields the unpacked bytes, and the packed file, whose position shows the progress."""
    with path.open("rb") as raw:
        suffix = path.suffix.lower()
        if suffix == ".zip":
            with zipfile.ZipFile(raw) as archive, archive.open(_only_csv(path, archive)) as member:
                yield pa.PythonFile(member, mode="r"), raw
        elif suffix in _PACKED:
            yield pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), _PACKED[suffix]), raw
        else:
            yield pa.PythonFile(raw, mode="r"), raw


def _only_csv(path: Path, archive: zipfile.ZipFile) -> str:
    found = [name for name in archive.namelist() if name.lower().endswith((".csv", ".txt")) and not is_macs(name)]
    if len(found) != 1:
        raise ValueError(f"{path}: has {len(found)} CSV files, expected one")
    return found[0]


def is_macs(name: str) -> bool:
    """Returns whether it is a file that macOS puts beside each real one, with the same suffix and without data."""
    *folders, own = name.split("/")
    return own.startswith("._") or "__MACOSX" in folders


def numbers(column: Any) -> NDArray[np.float64]:
    """Converts cells to numbers; NaN where the cell is not a number."""
    try:
        cast = column.cast(pa.float64())
    except pa.ArrowInvalid:
        return np.array([_parse_number(cell) for cell in column.to_pylist()], np.float64)
    return np.asarray(cast.fill_null(float("nan")).to_numpy(zero_copy_only=False), np.float64)


def local_ms(column: Any, *, ahead_h: float = 0.0) -> NDArray[np.int64]:
    """Converts `YYYY-MM-DD HH:MM:SS[.fff]`, of a clock `ahead_h` hours ahead of UTC, to ms UTC; NO_TIME where the cell
    is not a time."""
    ts_ms = _milliseconds(column, pa.timestamp("ns"), zoned=False)
    ts_ms[ts_ms != NO_TIME] -= round(ahead_h * 3_600_000)
    return ts_ms


def zoned_ms(column: Any) -> NDArray[np.int64]:
    """Converts RFC 3339 text to ms UTC; NO_TIME where the cell is not a time or has no zone."""
    return _milliseconds(column, pa.timestamp("ns", "UTC"), zoned=True)


def _milliseconds(column: Any, kind: Any, *, zoned: bool) -> NDArray[np.int64]:
    try:
        cast = column.cast(kind).cast(pa.int64())
    except pa.ArrowInvalid:
        return np.array([time_ms(cell, zoned=zoned) for cell in column.to_pylist()], np.int64)
    whole = np.array(cast.fill_null(NO_TIME).to_numpy(zero_copy_only=False), np.int64)
    return np.where(whole == NO_TIME, NO_TIME, whole // 1_000_000)


def _parse_number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float(cell.replace(",", ".")) if cell and DECIMAL_COMMA.fullmatch(cell) else float("nan")


def time_ms(cell: str | None, *, zoned: bool | None) -> int:
    """Converts a time in ISO 8601 to ms UTC; NO_TIME if it is none, or if `zoned` says otherwise of its zone."""
    try:
        time = datetime.fromisoformat((cell or "").strip())
    except ValueError:
        return NO_TIME
    if zoned is not None and (time.tzinfo is not None) != zoned:
        return NO_TIME
    return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)
