"""Reads archives of GTFS-Realtime VehiclePositions: a folder of .pb or .pb.gz files, each one answer of the feed.

The entity is the vehicle's id, or otherwise its trip's. The time is the vehicle's own, or otherwise the feed's. A
vehicle that the feed repeats with the same time is one ping; the repetitions are counted as `repeated_time`. Positions
are 32-bit floats in the feed, with an error of about a metre at most.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from stream.adapters.table_builder import END_S, Piece, Progress, TableBuilder
from stream.adapters.tables import Table

EXTRA: Final = "GTFS-Realtime needs gtfs-realtime-bindings: pip install 'pathcast[readers]'"
NAN: Final = float("nan")

Fix = tuple[str, int, float, float, float, float]  # entity, ms, lat, lon, m/s, degrees


def read(files: Sequence[Path], progress: Progress) -> Table:
    """Reads the files. If none is a feed, raises ValueError, which names one; if the bindings are absent, RuntimeError,
    which says what to install."""
    found = TableBuilder()
    newest: dict[str, int] = {}

    def add(file: Path, within: Progress) -> None:
        _add(found, [fix for fix in _read_fixes(_parse(file), found) if _is_news(fix, newest, found)])

    found.each(files, progress, add)
    return found.table()


def _is_news(fix: Fix, newest: dict[str, int], found: TableBuilder) -> bool:
    """Returns whether a fix is new, and counts it if not. Most of an archive is repetition, which is dropped here,
    before it takes memory, unless it is out of order."""
    entity, ts_ms = fix[:2]
    repeated = bool(entity) and newest.get(entity) == ts_ms
    found.dropped["repeated_time"] += repeated
    newest[entity] = ts_ms
    return not repeated


def _parse(file: Path) -> Any:
    try:
        from google.protobuf.message import DecodeError
        from google.transit.gtfs_realtime_pb2 import FeedMessage
    except ModuleNotFoundError as error:
        raise RuntimeError(EXTRA) from error
    message = FeedMessage()
    try:
        raw = file.read_bytes()
        message.ParseFromString(gzip.decompress(raw) if file.suffix.lower() == ".gz" else raw)
    except (DecodeError, UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: not a GTFS-Realtime feed, or damaged: {error}") from error
    if not message.HasField("header"):  # every feed must have one, so an empty file is not a feed without vehicles
        raise ValueError(f"{file}: not a GTFS-Realtime feed: {'no header' if raw else 'it is empty'}")
    return message


def _read_fixes(message: Any, found: TableBuilder) -> Iterator[Fix]:
    for item in message.entity:
        vehicle = item.vehicle
        if item.is_deleted or not item.HasField("vehicle") or not vehicle.HasField("position"):
            found.dropped["no_position"] += 1
            continue
        time_s = vehicle.timestamp or message.header.timestamp
        if not 0 < time_s < END_S:
            found.dropped["no_time"] += 1
            continue
        entity = vehicle.vehicle.id or vehicle.trip.trip_id
        if isinstance(entity, bytes):  # text that is not UTF-8; protobuf's slow Python version refuses the file
            found.dropped["unreadable_row"] += 1
            continue
        at = vehicle.position
        speed = at.speed if at.HasField("speed") else NAN
        bearing = at.bearing if at.HasField("bearing") else NAN
        yield entity, 1000 * time_s, at.latitude, at.longitude, speed, bearing


def _add(found: TableBuilder, fixes: Sequence[Fix]) -> None:
    if fixes:
        entity, ts_ms, *numbers = zip(*fixes, strict=True)
        lat, lon, speed, bearing = (np.array(column, np.float64) for column in numbers)
        found.add(Piece(pa.array(entity, pa.string()), np.array(ts_ms, np.int64), lat, lon, speed, bearing))
