"""Writes forecasts as CSV, NDJSON or Parquet: one row for each horizon, with the columns of `Ahead`."""

from __future__ import annotations

import csv
import io
from typing import Any, BinaryIO, Final

import msgspec

from stream.commands.files.ahead import Ahead, rows
from stream.wire import Forecast

GROUP_ROWS: Final = 65_536  # of Parquet


class Csv:
    def __init__(self, sink: BinaryIO) -> None:
        self._text = io.TextIOWrapper(sink, "utf-8", errors="surrogateescape", newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(Ahead._fields)

    def write(self, said: Forecast) -> None:
        self._writer.writerows(rows(said))

    def close(self) -> None:
        self._text.flush()
        self._text.detach()  # the sink is not ours to close


class Ndjson:
    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink

    def write(self, said: Forecast) -> None:
        self._sink.writelines(msgspec.json.encode(one._asdict()) + b"\n" for one in rows(said))

    def close(self) -> None:
        """Does nothing."""


class Parquet:
    """Times are timestamps in UTC here."""

    def __init__(self, sink: BinaryIO) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        time, kinds = pa.timestamp("ms", "UTC"), {str: pa.string(), int: pa.int64(), float: pa.float64()}
        types = {"ts": time, "forecast_ts": time, "entity_id": kinds[str], "status": kinds[str], "model": kinds[str]}
        self._schema = pa.schema([(name, types.get(name, kinds[float])) for name in Ahead._fields])
        self._writer = parquet.ParquetWriter(sink, self._schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def write(self, said: Forecast) -> None:
        self._waiting += [one._asdict() for one in rows(said)]
        if len(self._waiting) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting.clear()
