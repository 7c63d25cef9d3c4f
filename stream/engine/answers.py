"""Renders forecasts as records to publish: rounding, status and ids.

Published numbers are rounded to their useful precision: 1e-7 degrees (1.1 cm), 0.01 m, 1e-4 m2, 0.001 s. So replays
that differ in the last bits of a float nearly always publish the same bytes, and no reader stores noise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from model.api import Forecasts
from model.jit import compiled
from stream.engine.asks import Asks
from stream.engine.branches import write_branches
from stream.engine.json_template import TEXT, Template
from stream.kafka.records.columns import I64, BytesColumn
from stream.kafka.records.encoded_batches import Column, EncodedBatch, framed
from stream.kafka.records.record_columns import Records, headers_as_sent
from stream.tracing import TRACEPARENT
from stream.wire import (
    CACHES,
    E7,
    ModelRef,
    Status,
    Topics,
)
from stream.wire.ids import EVENT_ID, ID_CHARS, ID_SEPARATOR, digests, event_headers

DEG_DIGITS: Final = 7
M_DIGITS: Final = 2
M2_DIGITS: Final = 4
S_DIGITS: Final = 3
WARMUP_BELOW: Final = 8  # pings; with fewer the evaluation protocol does not score a forecast either
M_PER_DEG: Final = 111_195.08  # on the mean sphere, along a meridian

NO_TRACES: Final[Mapping[int, bytes]] = MappingProxyType({})
_STATUSES: Final[tuple[Status, ...]] = ("ok", "warmup", "stale", "fallback_cv")
_OK, _WARMUP, _STALE, _FALLBACK = range(4)
_STATUS_TEXTS: Final = BytesColumn.of([status.encode() for status in _STATUSES])
_CACHE_TEXTS: Final = BytesColumn.of([cache.encode() for cache in CACHES])
_FLAGS: Final = BytesColumn.of([b"false", b"true"])
_UNREAD: Final = CACHES.index("unread")
_TO_ESCAPE: Final = re.compile(rb'["\\\x00-\x1f\x7f]')
_HOLE: Final = "\0"  # encloses the decimals of a hole while the template is built
_TURN: Final = 360 * E7
_DEG, _M2, _M, _S = (10.0**digits for digits in (DEG_DIGITS, M2_DIGITS, M_DIGITS, S_DIGITS))
_TOO_LARGE: Final = 9e18  # the first integers that an int64 cannot hold are not far above
_AROUND_HORIZONS: Final = 21  # the template's numbers, without the five of each horizon and an atlas's pings
_BEFORE_HORIZONS: Final = 13
_BRANCHES: Final = 2  # the place of their text among the texts


class Answered(NamedTuple):
    """N accepted pings, in columns, and the model's forecasts that answer them."""

    rows: I64  # the rows of their records in the batch
    anchor: NDArray[Any]  # FIX
    window_n: I64  # fixes in the window that ends with the ping
    window_from_ms: I64
    late: NDArray[np.bool_]
    cache: NDArray[np.int8]  # an index of CACHES
    model: I64  # twice the place of its network, plus one if another may have been due
    said: Forecasts
    asks: Asks | None = None  # None where no atlases serve

    @classmethod
    def joined(cls, parts: Sequence[Answered], which: I64) -> Answered:
        """Joins the parts: the rows of one partition are side by side, in the order of their records.

        `which` is the partition of each record.
        """
        rows = np.concatenate([part.rows for part in parts])
        order = np.lexsort((rows, which[rows]))

        def one(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
            return (columns[0] if len(columns) == 1 else np.concatenate(columns))[order]

        *columns, said, asks = zip(*parts, strict=True)
        asked = None if asks[0] is None else Asks.joined(asks).at(order)
        return cls._make([*map(one, columns), Forecasts._make(map(one, zip(*said, strict=True))), asked])


class Writer:
    """Writes forecast records: the fields of `wire.Forecast`, in its order, through a template."""

    def __init__(self, horizons_s: Sequence[float], topics: Topics) -> None:
        # As `ids.forecast_id` builds it.
        self._id = Template(["", ID_SEPARATOR, ID_SEPARATOR, ""], [TEXT, 0, TEXT])
        self._topic, self._horizons_s = topics.forecasts, tuple(horizons_s)
        self._template, self._guided = (_template(horizons_s, guided=guided) for guided in (False, True))

    def written(
        self,
        records: Records,
        parts: Sequence[Answered],
        models: Sequence[ModelRef],
        clocks_ms: tuple[float, float, float],
        traceparents: Mapping[int, bytes] = NO_TRACES,
    ) -> list[EncodedBatch]:
        """Returns the answers to some of these records; those of each partition are in the order of its records.

        `clocks_ms` are when the records were fetched, when the batch started, and when the model answered.
        `traceparents` has the header of the answers that are in a trace, by row. Raises ValueError for a number that is
        not finite.
        """
        if not parts:
            return []
        asked = Answered.joined(parts, records.which)
        asking = records.at(asked.rows)
        keys = asking.keys.alone()  # copied out of the bytes that a broker sent
        ids = self._ids(asked, keys, models)
        template = self._template if asked.asks is None else self._guided
        texts = _texts(asked, asking, keys, ids, models)
        if asked.asks is not None:
            texts.insert(_BRANCHES, write_branches(self._horizons_s, asked.said))
        values = template.written(_numbers(asked, asking, clocks_ms), texts)
        begins = np.append(True, asking.which[1:] != asking.which[:-1])
        heads, which = [_head(*one) for one in records.partitions], asking.which
        if traceparents:
            which = which.copy()
            for row, value in traceparents.items():
                for place in np.flatnonzero(asked.rows == row).tolist():
                    topic, number = records.partitions[asking.which[place]]
                    which[place] = len(heads)
                    heads.append(_head_with(topic, number, value))
        pages = framed(keys, values, BytesColumn.of(heads).at(which), Column(EVENT_ID, ids), begins)
        sources = [records.partitions[asking.which[at.start]] for at, _ in pages]
        return [
            EncodedBatch(self._topic, source, asked.rows[at], body)
            for source, (at, body) in zip(sources, pages, strict=True)
        ]

    def _ids(self, asked: Answered, keys: BytesColumn, models: Sequence[ModelRef]) -> BytesColumn:
        if asked.asks is None:
            atlases, which = [b""], np.zeros(len(asked.rows), np.int64)
        else:
            # The index of none is -1, the last.
            atlases = [*((ID_SEPARATOR + atlas.version).encode() for atlas in asked.asks.atlases), b""]
            which = asked.asks.which % len(atlases)
        versions = BytesColumn.of([one.version.encode() + atlas for one in models for atlas in atlases])
        of = asked.model // 2 * len(atlases) + which
        texts = self._id.written(asked.anchor["ts_ms"][None], [keys, versions.at(of)])
        return BytesColumn.of_width(np.frombuffer(digests(filter(None, texts.each())), np.uint8), ID_CHARS)


@lru_cache(maxsize=4096)
def _head(topic: str, number: int) -> bytes:
    """Returns the encoded headers of a forecast that answers a record of this partition, except the header of its
    id."""
    return headers_as_sent(event_headers("forecast", topic, number), more=1)


def _head_with(topic: str, number: int, trace_parent: bytes) -> bytes:
    """Returns the same, with the header of a trace."""
    return headers_as_sent((*event_headers("forecast", topic, number), (TRACEPARENT, trace_parent)), more=1)


def _template(horizons_s: Sequence[float], *, guided: bool) -> Template:
    """Returns the template of `wire.Forecast` as JSON, with holes for its numbers and changing texts.

    It has the branches and the atlas if it is `guided`.
    """
    text, whole, deg, metres, m2, seconds = (
        f"{_HOLE}{decimals}{_HOLE}" for decimals in (TEXT, 0, DEG_DIGITS, M_DIGITS, M2_DIGITS, S_DIGITS)
    )
    cov = f"[{m2},{m2},{m2}]"
    horizons = ",".join(f'{{"h_s":{float(h)!r},"lat":{deg},"lon":{deg},"cov_m2":{cov}}}' for h in horizons_s)
    atlas = f'"atlas":{{"version":{text},"pings":{whole},"late":{text}}},' if guided else ""
    branches = text if guided else ""
    whole_row = (
        f'{{"forecast_id":"{text}","entity_id":"{text}","anchor":{{"ts":{whole},"lat":{deg},"lon":{deg}}},'
        f'"next":{{"dt_s":{seconds},"d_east_m":{metres},"d_north_m":{metres},"d_lat":{deg},"d_lon":{deg},'
        f'"cov_m2":{cov},"dt_early_s":{seconds},"dt_late_s":{seconds}}},"horizons":[{horizons}]{branches},'
        f'"model":{text},{atlas}"status":"{text}",'
        f'"window":{{"n":{whole},"from_ts":{whole},"to_ts":{whole}}},"cache":"{text}",'
        f'"latency_ms":{{"ingest":{seconds},"queue":{seconds},"infer":{seconds}}},'
        f'"src":{{"topic":"{text}","partition":{whole},"offset":{whole}}}}}'
    )
    parts = whole_row.split(_HOLE)
    return Template(parts[::2], [int(decimals) for decimals in parts[1::2]])


def _numbers(asked: Answered, asking: Records, clocks_ms: tuple[float, float, float]) -> I64:
    """Returns the numbers [..., N] of the template, in its order, each scaled by ten to the power of its decimals.

    Raises ValueError if one is not finite, or is too large for such an integer.
    """
    said = asked.said
    numbers = np.empty((_AROUND_HORIZONS + 5 * said.lat.shape[1], len(asked.rows)), np.int64)
    of = np.array([number for _, number in asking.partitions])[asking.which]
    next_ = said.next_dt_s, said.next_en_m, said.next_lat, said.next_lon, said.next_cov_m2
    horizons = said.next_early_s, said.next_late_s, said.lat, said.lon, said.cov_m2
    window, source = (asked.window_n, asked.window_from_ms), (asking.timestamps_ms, of, asking.offsets)
    if not _scale(asked.anchor, *next_, *horizons, *window, *clocks_ms, *source, numbers):
        raise ValueError("a number is not finite, or too large to be published")
    if asked.asks is None:
        return numbers
    return np.insert(numbers, _BEFORE_HORIZONS + 5 * said.lat.shape[1], said.atlas_pings, axis=0)


@partial(compiled, maths=())
def _scale(  # type: ignore[no-untyped-def]
    anchor, dt_s, en_m, next_lat, next_lon, next_cov, early_s, late_s, lat, lon, cov, window_n, from_ms,
    fetched_ms, started_ms, answered_ms, timestamp_ms, partition, offset, out,
):  # fmt: skip
    """Fills `out` [numbers, N]. Returns whether all numbers fit."""
    horizons = lat.shape[1]
    queue, infer = np.rint((started_ms - fetched_ms) * _S), np.rint((answered_ms - started_ms) * _S)
    for i in range(len(anchor)):
        ts, here_lat, here_lon = anchor[i]["ts_ms"], np.int64(anchor[i]["lat_e7"]), np.int64(anchor[i]["lon_e7"])
        there_lat, there_lon = np.rint(next_lat[i] * _DEG), np.rint(next_lon[i] * _DEG)
        # 0 for a record without a time, and at least 0: the clocks of a producer and of this machine may disagree.
        ingest = 0.0 if timestamp_ms[i] < 0 else np.rint((fetched_ms - timestamp_ms[i]) * _S)
        scaled = (
            np.rint(dt_s[i] * _S), np.rint(en_m[i, 0] * _M), np.rint(en_m[i, 1] * _M), there_lat, there_lon,
            np.rint(next_cov[i, 0] * _M2), np.rint(next_cov[i, 1] * _M2), np.rint(next_cov[i, 2] * _M2),
            np.rint(early_s[i] * _S), np.rint(late_s[i] * _S), ingest, queue, infer,
        )  # fmt: skip
        for number in scaled:
            if not abs(number) < _TOO_LARGE:  # false for NaN, too
                return False
        out[0, i], out[1, i], out[2, i] = ts, here_lat, here_lon
        for k in range(3):
            out[3 + k, i] = np.int64(scaled[k])
        d_lon = np.int64(there_lon) - here_lon
        out[6, i], out[7, i] = np.int64(there_lat) - here_lat, (d_lon + _TURN // 2) % _TURN - _TURN // 2
        for k in range(5):
            out[8 + k, i] = np.int64(scaled[5 + k])
        at = _BEFORE_HORIZONS
        for h in range(horizons):
            for k in range(5):
                number = cov[i, h, k - 2] * _M2 if k > 1 else (lat[i, h] if k == 0 else lon[i, h]) * _DEG
                number = np.rint(number)
                if not abs(number) < _TOO_LARGE:
                    return False
                out[at + k, i] = np.int64(number)
            at += 5
        out[at, i], out[at + 1, i], out[at + 2, i] = window_n[i], from_ms[i], ts
        for k in range(3):
            out[at + 3 + k, i] = max(np.int64(scaled[10 + k]), 0)
        out[at + 6, i], out[at + 7, i] = partition[i], offset[i]
    return True


def _texts(
    asked: Answered, asking: Records, entity_ids: BytesColumn, ids: BytesColumn, models: Sequence[ModelRef]
) -> list[BytesColumn]:
    """Returns the texts of the template, in its order."""
    # An unread window is not the entity's whole window, however long it is.
    warm = (asked.window_n < WARMUP_BELOW) | (asked.cache == _UNREAD)
    status = np.where(asked.late, _STALE, np.where(asked.said.fallback, _FALLBACK, np.where(warm, _WARMUP, _OK)))
    topics = BytesColumn.of([_escaped(topic.encode()) for topic, _ in asking.partitions])
    if _TO_ESCAPE.search(entity_ids.raw.tobytes()):
        entity_ids = BytesColumn.of([_escaped(key or b"") for key in entity_ids.each()])
    atlas = (
        () if asked.asks is None else (_versions(asked.asks, b'"', b'"', none=b"null"), _FLAGS.at(asked.asks.late * 1))
    )
    said = BytesColumn.of([msgspec.json.encode(replace(one, late=late)) for one in models for late in (False, True)])
    return [
        ids,
        entity_ids,
        said.at(asked.model),
        *atlas,
        _STATUS_TEXTS.at(status),
        _CACHE_TEXTS.at(asked.cache),
        topics.at(asking.which),
    ]


def _versions(asks: Asks, before: bytes, after: bytes, *, none: bytes) -> BytesColumn:
    """Returns the version that each record asks, between these bytes, or `none`."""
    texts = [before + atlas.version.encode() + after for atlas in asks.atlases]
    return BytesColumn.of([*texts, none]).at(asks.which)  # the index of none is -1


def _escaped(text: bytes) -> bytes:
    """Returns the text as JSON writes it between quotes."""
    return msgspec.json.encode(text.decode())[1:-1]
