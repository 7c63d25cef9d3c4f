"""Renders the model's answers as records to publish: rounding, status and ids.

Published numbers are rounded to their useful precision: 1e-7 degrees (1.1 cm), 0.01 m, 1e-4 m2, 0.001 s. So replays
that differ in the last bits of a float nearly always publish the same bytes, and no reader stores noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.api import Fill, Forecasts
from model.jit import compiled
from stream.engine.json_template import TEXT, Template, fixed
from stream.kafka.columns import I64, BytesColumn
from stream.kafka.encoded_batches import Column, EncodedBatch, framed
from stream.kafka.record_columns import Records, headers_as_sent
from stream.tracks.fix import Fix
from stream.tracks.track import Gap
from stream.wire import CACHES, E7, Anchor, GapFill, GapPoint, ModelRef, Outgoing, Record, Status, Topics, dumps
from stream.wire.ids import EVENT_ID, ID_CHARS, ID_SEPARATOR, digests, event_headers, gap_id

DEG_DIGITS: Final = 7
M_DIGITS: Final = 2
M2_DIGITS: Final = 4
S_DIGITS: Final = 3
WARMUP_BELOW: Final = 8  # pings; with fewer the evaluation protocol does not score a forecast either
M_PER_DEG: Final = 111_195.08  # on the mean sphere, along a meridian

_STATUSES: Final[tuple[Status, ...]] = ("ok", "warmup", "stale", "fallback_cv")
_OK, _WARMUP, _STALE, _FALLBACK = range(4)
_STATUS_TEXTS: Final = BytesColumn.of([status.encode() for status in _STATUSES])
_CACHE_TEXTS: Final = BytesColumn.of([cache.encode() for cache in CACHES])
_UNREAD: Final = CACHES.index("unread")
_TO_ESCAPE: Final = re.compile(rb'["\\\x00-\x1f\x7f]')
_HOLE: Final = "\0"  # encloses the decimals of a hole while the template is built
_TURN: Final = 360 * E7
_DEG, _M2 = 10.0**DEG_DIGITS, 10.0**M2_DIGITS

GapStatus = Literal["provisional", "final", "retracted"]


class Answered(NamedTuple):
    """N accepted pings, in columns, and the model's forecasts that answer them."""

    rows: I64  # the rows of their records in the batch
    anchor: NDArray[Any]  # FIX
    window_n: I64  # fixes in the window that ends with the ping
    window_from_ms: I64
    late: NDArray[np.bool_]
    cache: NDArray[np.int8]  # an index of CACHES
    said: Forecasts

    @classmethod
    def joined(cls, parts: Sequence[Answered], which: I64) -> Answered:
        """Joins the parts: the rows of one partition are side by side, in the order of their records.

        `which` is the partition of each record.
        """
        rows = np.concatenate([part.rows for part in parts])
        order = np.lexsort((rows, which[rows]))

        def one(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
            return (columns[0] if len(columns) == 1 else np.concatenate(columns))[order]

        *columns, said = zip(*parts, strict=True)
        return cls._make([*map(one, columns), Forecasts._make(map(one, zip(*said, strict=True)))])


class Writer:
    """Writes forecast records: the fields of `wire.Forecast`, in its order, through a template."""

    def __init__(self, horizons_s: Sequence[float], model: ModelRef, topics: Topics) -> None:
        # As `ids.forecast_id` builds it.
        self._id = Template(["", ID_SEPARATOR, ID_SEPARATOR + model.version], [TEXT, 0])
        self._topic = topics.forecasts
        self._template = _template(horizons_s, model)

    def written(
        self, records: Records, parts: Sequence[Answered], clocks_ms: tuple[float, float, float]
    ) -> list[EncodedBatch]:
        """Returns the answers to some of these records; those of each partition are in the order of its records.

        `clocks_ms` are when the records were fetched, when the batch started, and when the model answered. Raises
        ValueError for a number that is not finite.
        """
        if not parts:
            return []
        asked = Answered.joined(parts, records.which)
        asking = records.at(asked.rows)
        asking = replace(asking, keys=asking.keys.alone())  # copied out of the bytes that a broker sent
        id_texts = self._id.written(asked.anchor["ts_ms"][None], [asking.keys])
        ids = BytesColumn.of_width(np.frombuffer(digests(filter(None, id_texts.each())), np.uint8), ID_CHARS)
        values = self._template.written(_numbers(asked, asking, clocks_ms), _texts(asked, asking, ids))
        begins = np.append(True, asking.which[1:] != asking.which[:-1])
        heads = [_head(*one) for one in records.partitions]
        pages = framed(asking.keys, values, BytesColumn.of(heads).at(asking.which), Column(EVENT_ID, ids), begins)
        sources = [records.partitions[asking.which[at.start]] for at, _ in pages]
        return [
            EncodedBatch(self._topic, source, asked.rows[at], body)
            for source, (at, body) in zip(sources, pages, strict=True)
        ]


@lru_cache(maxsize=4096)
def _head(topic: str, number: int) -> bytes:
    """Returns the encoded headers of a forecast that answers a record of this partition, except the header of its
    id."""
    return headers_as_sent(event_headers("forecast", topic, number), more=1)


def _template(horizons_s: Sequence[float], model: ModelRef) -> Template:
    """Returns the template of `wire.Forecast` as JSON, with holes for its numbers and changing texts."""
    text, whole, deg, metres, m2, seconds = (
        f"{_HOLE}{decimals}{_HOLE}" for decimals in (TEXT, 0, DEG_DIGITS, M_DIGITS, M2_DIGITS, S_DIGITS)
    )
    cov = f"[{m2},{m2},{m2}]"
    horizons = ",".join(f'{{"h_s":{float(h)!r},"lat":{deg},"lon":{deg},"cov_m2":{cov}}}' for h in horizons_s)
    whole_row = (
        f'{{"forecast_id":"{text}","entity_id":"{text}","anchor":{{"ts":{whole},"lat":{deg},"lon":{deg}}},'
        f'"next":{{"dt_s":{seconds},"d_east_m":{metres},"d_north_m":{metres},"d_lat":{deg},"d_lon":{deg},'
        f'"cov_m2":{cov},"dt_early_s":{seconds},"dt_late_s":{seconds}}},"horizons":[{horizons}],'
        f'"model":{msgspec.json.encode(model).decode()},"status":"{text}",'
        f'"window":{{"n":{whole},"from_ts":{whole},"to_ts":{whole}}},"cache":"{text}",'
        f'"latency_ms":{{"ingest":{seconds},"queue":{seconds},"infer":{seconds}}},'
        f'"src":{{"topic":"{text}","partition":{whole},"offset":{whole}}}}}'
    )
    parts = whole_row.split(_HOLE)
    return Template(parts[::2], [int(decimals) for decimals in parts[1::2]])


def _numbers(asked: Answered, asking: Records, clocks_ms: tuple[float, float, float]) -> I64:
    """Returns the numbers [..., N] of the template, in its order, each scaled by ten to the power of its decimals."""
    fetched_ms, started_ms, answered_ms = clocks_ms
    n, ts, said = len(asked.rows), asked.anchor["ts_ms"], asked.said
    lat, lon = asked.anchor["lat_e7"].astype(np.int64), asked.anchor["lon_e7"].astype(np.int64)
    next_lat, next_lon = fixed(said.next_lat, DEG_DIGITS), fixed(said.next_lon, DEG_DIGITS)
    lats, lons = fixed(said.lat, DEG_DIGITS), fixed(said.lon, DEG_DIGITS)
    horizons = np.concatenate([lats[..., None], lons[..., None], fixed(said.cov_m2, M2_DIGITS)], axis=-1)
    # 0 for a record without a time.
    since_ms = np.where(asking.timestamps_ms < 0, 0.0, fetched_ms - asking.timestamps_ms)
    # At least 0, because the clocks of a producer and of this machine may disagree.
    waits = np.maximum(fixed(np.array([started_ms - fetched_ms, answered_ms - started_ms]), S_DIGITS), 0)
    columns = [
        *(ts, lat, lon, fixed(said.next_dt_s, S_DIGITS), *fixed(said.next_en_m, M_DIGITS).T),
        *(next_lat - lat, (next_lon - lon + _TURN // 2) % _TURN - _TURN // 2, *fixed(said.next_cov_m2, M2_DIGITS).T),
        *(fixed(said.next_early_s, S_DIGITS), fixed(said.next_late_s, S_DIGITS)),
        *horizons.reshape(n, -1).T,
        *(asked.window_n, asked.window_from_ms, ts),
        *(np.maximum(fixed(since_ms, S_DIGITS), 0), np.full(n, waits[0]), np.full(n, waits[1])),
        *(np.array([number for _, number in asking.partitions])[asking.which], asking.offsets),
    ]
    return np.array(columns, np.int64)


def _texts(asked: Answered, asking: Records, ids: BytesColumn) -> list[BytesColumn]:
    """Returns the texts of the template, in its order."""
    # An unread window is not the entity's whole window, however long it is.
    warm = (asked.window_n < WARMUP_BELOW) | (asked.cache == _UNREAD)
    status = np.where(asked.late, _STALE, np.where(asked.said.fallback, _FALLBACK, np.where(warm, _WARMUP, _OK)))
    topics = BytesColumn.of([_escaped(topic.encode()) for topic, _ in asking.partitions])
    entity_ids = asking.keys
    if _TO_ESCAPE.search(entity_ids.raw.tobytes()):
        entity_ids = BytesColumn.of([_escaped(key or b"") for key in entity_ids.each()])
    return [ids, entity_ids, _STATUS_TEXTS.at(status), _CACHE_TEXTS.at(asked.cache), topics.at(asking.which)]


def _escaped(text: bytes) -> bytes:
    """Returns the text as JSON writes it between quotes."""
    return msgspec.json.encode(text.decode())[1:-1]


def gap_fill(
    record: Record, entity_id: str, gap: Gap, status: GapStatus, fill: Fill | None, model: ModelRef, topics: Topics
) -> Outgoing:
    """Returns one gap fill record; `fill` is None for a retracted one, which has no points any more.

    `issued_ts` is the timestamp of the record that caused it, not a clock: a replay publishes the same bytes. If that
    record has no timestamp, it is the time of the ping that ends the gap.
    """
    start, end = _anchor(gap.start), _anchor(gap.end)
    points, length_m, max_sigma_m = ((), 0.0, 0.0) if fill is None else _drawn(start, gap.times_ms, fill, end)
    filled = GapFill(
        gap_id=gap_id(entity_id, start.ts),
        entity_id=entity_id,
        revision=0 if status == "provisional" else 1,
        status=status,
        start=start,
        end=end,
        reason="late" if status == "retracted" else gap.reason,
        method="none" if fill is None else fill.method,
        points=points,
        length_m=length_m,
        max_sigma_m=max_sigma_m,
        model=model,
        issued_ts=end.ts if record.timestamp_ms < 0 else record.timestamp_ms,
    )
    event_id = f"{filled.gap_id}.{filled.revision}".encode()
    headers = (*event_headers("gapfill", record.topic, record.partition), (EVENT_ID, event_id))
    return Outgoing(topics.gapfills, entity_id.encode(), dumps(filled), headers, record)


def _anchor(fix: Fix) -> Anchor:
    return Anchor(fix.ts_ms, fix.lat_e7 / E7, fix.lon_e7 / E7)


def _drawn(
    start: Anchor, times_ms: Sequence[int], fill: Fill, end: Anchor
) -> tuple[tuple[GapPoint, ...], float, float]:
    """Returns the points of a fill; the length of the path through them, on local planes; and the largest standard
    deviation at any of them in any direction."""
    table = np.empty((len(times_ms), 5))
    ends = np.array([(start.lat, start.lon), (end.lat, end.lon)])
    length_m, max_var_m2 = _measured(fill.lat, fill.lon, fill.cov_m2, ends, table)
    points = [
        GapPoint(ts, lat, lon, (ee, en, nn))
        for ts, (lat, lon, ee, en, nn) in zip(times_ms, table.tolist(), strict=True)
    ]
    return tuple(points), round(length_m, M_DIGITS), round(math.sqrt(max_var_m2), M_DIGITS)


@partial(compiled, maths=())  # so that -0.0 + 0.0 is 0.0
def _measured(lat, lon, cov, ends, table):  # type: ignore[no-untyped-def]
    """Fills the table [M, 5]: latitude, longitude and covariance of each point, rounded.

    Returns the length in metres from one end over the points to the other, and the largest eigenvalue of all
    covariances.
    """
    length, largest, last = 0.0, 0.0, ends[0]
    for i in range(len(table) + 1):
        if i < len(table):
            row = table[i]
            row[0], row[1] = np.rint(lat[i] * _DEG) / _DEG + 0.0, np.rint(lon[i] * _DEG) / _DEG + 0.0
            for k in range(3):
                row[2 + k] = np.rint(cov[i, k] * _M2) / _M2 + 0.0
            half = np.hypot((cov[i, 0] - cov[i, 2]) / 2, cov[i, 1])
            largest = max(largest, (cov[i, 0] + cov[i, 2]) / 2 + half)
            here = row
        else:
            here = ends[1]
        d_lon = (here[1] - last[1] + 180.0) % 360.0 - 180.0
        length += np.hypot(here[0] - last[0], d_lon * np.cos(np.radians(here[0])))
        last = here
    return length * M_PER_DEG, largest
