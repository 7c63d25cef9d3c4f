"""Turns records into rows of an archive: what a worker would take for a ping. Others are counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from stream.adapters.archived.reading import SCHEMA
from stream.tracks.clean import Foreign, parse
from stream.wire import NO_TIME_MS, Record, Reject

# Reasons of ours to leave a ping out; those of `stream.tracks.clean` come besides.
TOO_LATE = "too_late"  # much older than its record
TOO_OLD = "too_old"  # of a day that is not kept
FORGOTTEN = "forgotten"  # of an entity of which nothing is stored


def parsed(records: Iterable[Record], late_ms: int | None, foreign: Foreign | None = None) -> tuple[Any, Counter[str]]:
    """Returns the pings as a record batch of SCHEMA, and how many records are left out, by reason. `foreign` reads what
    has not the form of a ping of ours."""
    rows, left_out = [], Counter[str]()
    for record in records:
        ping = parse(record, foreign)
        if isinstance(ping, Reject):
            left_out[ping.code] += 1
        elif late_ms is not None and record.timestamp_ms != NO_TIME_MS and ping.ts < record.timestamp_ms - late_ms:
            left_out[TOO_LATE] += 1
        else:
            rows.append(
                (
                    ping.entity_id,
                    ping.ts,
                    ping.lat,
                    ping.lon,
                    ping.speed_mps,
                    ping.heading_deg,
                    ping.trip_id,
                    ping.category,
                    record.partition,
                    record.offset,
                )
            )
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA), left_out
