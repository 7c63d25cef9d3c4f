"""Copies Parquet with filled rows: columns, their order and types, metadata and compression are kept.

A column that a filled row has no value for is null there, so no column of the copy forbids nulls. Of GeoParquet, the
primary column of points in WKB and longitude/latitude is filled, too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet

from stream.adapters.column_names import ColumnMap, find_columns
from stream.commands.files.plan import FILLED, SIGMA, Cursor, FilledPoint
from stream.commands.files.times import like
from stream.wire.ping_rules import event_time_ms

ROWS: Final = 65_536  # of a row group
_CODECS: Final = {"UNCOMPRESSED": "NONE", "UNKNOWN": "SNAPPY"}  # others are written by the names that they are read by
_POINT: Final = struct.Struct("<BIdd")  # WKB: little endian, the type of a point, x, y
_LONGITUDE_LATITUDE: Final = ("OGC:CRS84", "EPSG:4326")


def sample(path: Path, columns: ColumnMap | None) -> Any:
    """Returns the first value that is a time: of a column of timestamps the unit that it can hold, as a number."""
    file = parquet.ParquetFile(path)
    name = find_columns(path, file.schema_arrow.names, columns)["ts"]
    kind = file.schema_arrow.field(name).type
    if pa.types.is_timestamp(kind):
        return 1 if kind.unit == "s" else 10**12  # a number of seconds, or of milliseconds
    if name not in file.schema_arrow.names:
        raise ValueError(f"{path}: filled rows of Parquet need a time in one column, and it is in {name}")
    times = columns.local_times() if columns else None
    for batch in file.iter_batches(ROWS, columns=[name]):
        for value in batch.column(0).to_pylist():
            is_local = times is not None and isinstance(value, str) and times.to_ms(value, None) is not None
            if is_local or event_time_ms(value) is not None:
                return value
    return None


def copy(path: Path, columns: ColumnMap | None, form: Any, cursor: Cursor, sink: BinaryIO) -> None:
    """Writes the file with the filled rows of the cursor's plan; `form` is what `sample` gave."""
    file = parquet.ParquetFile(path)
    place = find_columns(path, file.schema_arrow.names, columns)
    schema = _schema(path, file.schema_arrow)
    geometry = _point_column(schema)
    with parquet.ParquetWriter(sink, schema, compression=_compression(file)) as writer:
        row = 0
        for batch in file.iter_batches(ROWS):
            kept = _add_marks(batch, schema)
            first = cursor.written
            if points := cursor.after(row + len(batch) - 1):
                filled = _filled_rows(points, place, schema, columns, form, geometry)
                at = cursor.plan.after[first : cursor.written] - row + 1
                order = np.insert(np.arange(len(batch)), at, np.arange(len(batch), len(batch) + len(points)))
                kept = pa.concat_tables([kept, filled]).unify_dictionaries().combine_chunks().take(pa.array(order))
            writer.write_table(kept, row_group_size=len(kept) or None)
            row += len(batch)


def _schema(path: Path, own: Any) -> Any:
    found = pa.schema([field.with_nullable(True) for field in own], own.metadata)
    for name, kind in ((FILLED, pa.bool_()), (SIGMA, pa.float64())):
        if name not in found.names:
            found = found.append(pa.field(name, kind))
        elif not pa.types.is_boolean(found.field(name).type) and not pa.types.is_floating(found.field(name).type):
            raise ValueError(f"{path}: it has a column {name} of {found.field(name).type}: rename it")
    return found


def _compression(file: Any) -> dict[str, str]:
    """Returns the codec of each column of a file as the writer takes it; new columns are not compressed."""
    if not file.metadata.num_row_groups:
        return {}
    group = file.metadata.row_group(0)
    chunks = [group.column(at) for at in range(group.num_columns)]
    return {chunk.path_in_schema: _CODECS.get(chunk.compression, chunk.compression) for chunk in chunks}


def _add_marks(batch: Any, schema: Any) -> Any:
    table = pa.Table.from_batches([batch])
    for name, value in ((FILLED, False), (SIGMA, None)):
        if name not in table.schema.names:
            kind = schema.field(name).type
            column = pa.nulls(len(batch), kind) if value is None else pa.repeat(pa.scalar(value, kind), len(batch))
            table = table.append_column(schema.field(name), column)
    return table.cast(schema) if table.schema != schema else table


def _filled_rows(
    points: Sequence[FilledPoint],
    place: dict[str, str],
    schema: Any,
    columns: ColumnMap | None,
    form: Any,
    geometry: str,
) -> Any:
    own: dict[str, Any] = {
        place["entity_id"]: [point.entity_id for point in points],
        place["lat"]: [point.lat for point in points],
        place["lon"]: [point.lon for point in points],
        FILLED: [True] * len(points),
        SIGMA: [point.sigma_m for point in points],
    }
    if geometry:
        own[geometry] = [_POINT.pack(1, 1, point.lon, point.lat) for point in points]
    kind = schema.field(place["ts"]).type
    if pa.types.is_timestamp(kind):
        times = pa.array([point.ts_ms for point in points], pa.int64()).cast(pa.timestamp("ms", "UTC"))
        if kind.tz is None and columns is not None and columns.zone:
            times = compute.local_timestamp(times.cast(pa.timestamp("ms", columns.zone)))
        times = times.cast(pa.timestamp("ms", kind.tz)).cast(kind)
    else:
        times = _convert([like(form, point.ts_ms, columns) for point in points], kind)
    arrays = [
        times if field.name == place["ts"] else _convert(own.get(field.name), field.type, len(points))
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _convert(values: list[Any] | None, kind: Any, count: int = 0) -> Any:
    """Returns values as a column of a type; nulls without values. An entity's id is a text, whatever type its column
    has."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _convert(values, kind.storage_type, count))
    if values is None:
        return pa.nulls(count, kind)
    return pa.array(values).cast(kind)


def _point_column(schema: Any) -> str:
    """Returns the name of the primary column of GeoParquet if filled rows can have a point there, else nothing."""
    try:
        geo = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
        name = geo["primary_column"]
        column = geo["columns"][name]
    except (ValueError, KeyError, TypeError):
        return ""
    crs = column.get("crs", {"id": {"authority": "OGC", "code": "CRS84"}})  # absent: CRS84, by the specification
    code = crs.get("id", {}) if isinstance(crs, dict) else {}
    known = f"{code.get('authority')}:{code.get('code')}" in _LONGITUDE_LATITUDE
    points = set(column.get("geometry_types", ())) <= {"Point"}
    return str(name) if known and points and column.get("encoding") == "WKB" and name in schema.names else ""
