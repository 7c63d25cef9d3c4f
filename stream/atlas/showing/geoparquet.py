"""Draws an atlas as GeoParquet 1.1: the arrows of `stream.atlas.showing.flows`, one a row, as lines in WKB."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from typing import Any, Final

_LINE: Final = struct.Struct("<BII4d")  # little-endian, a LineString, of two points
_LINE_STRING: Final = 2
_VERSION: Final = "1.1.0"


def parquet(features: Sequence[dict[str, Any]]) -> bytes:
    """Returns the file of these features. Raises ValueError if the extra `readers` is not installed."""
    try:
        import pyarrow as pa
        from pyarrow import parquet as pq
    except ImportError as error:
        raise ValueError("GeoParquet needs pyarrow: pip install 'pathcast[readers]'") from error
    lines = [feature["geometry"]["coordinates"] for feature in features]
    about = [feature["properties"] for feature in features]
    columns = {
        "geometry": pa.array([_wkb(line) for line in lines], pa.binary()),
        "n": pa.array([one["n"] for one in about], pa.int32()),
        "heading_deg": pa.array([one["heading_deg"] for one in about], pa.int16()),
        "after_s": pa.array([one["after_s"] for one in about], pa.float64()),
    }
    table = pa.table(columns).replace_schema_metadata({"geo": json.dumps(_metadata(lines))})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _wkb(line: Sequence[Sequence[float]]) -> bytes:
    (lon, lat), (end_lon, end_lat) = line
    return _LINE.pack(1, _LINE_STRING, 2, lon, lat, end_lon, end_lat)


def _metadata(lines: Sequence[Sequence[Sequence[float]]]) -> dict[str, Any]:
    about: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["LineString"]}
    if lines:
        lon, lat = zip(*(point for line in lines for point in line), strict=True)
        about["bbox"] = [min(lon), min(lat), max(lon), max(lat)]
    return {"version": _VERSION, "primary_column": "geometry", "columns": {"geometry": about}}
