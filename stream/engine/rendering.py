"""Renders what is published for one ping: its forecast, gap fills, and dead letters, and counts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from model.api import Fill
from model.jit import compiled
from stream.config.settings import Settings
from stream.engine.answers import DEG_DIGITS, M2_DIGITS, M_DIGITS, M_PER_DEG, Answered, Writer
from stream.engine.batch import EngineBatch, Outcome
from stream.engine.entities.shard import Shard
from stream.kafka.records.encoded_batches import EncodedBatch
from stream.kafka.records.record_columns import Records
from stream.tracks.fix import Fix
from stream.tracks.track import Gap
from stream.wire import (
    E7,
    Anchor,
    AtlasRef,
    GapFill,
    GapPoint,
    ModelRef,
    Outgoing,
    Record,
    Reject,
    Topics,
    dead_letter,
    dumps,
)
from stream.wire.ids import EVENT_ID, event_headers, gap_id

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.pings import TracedBatch

_DEG, _M2 = (10.0**digits for digits in (DEG_DIGITS, M2_DIGITS))

GapStatus = Literal["provisional", "final", "retracted"]


class Renderer:
    """Renders answers of one program as records, and counts them."""

    def __init__(self, version: str, settings: Settings) -> None:
        """Takes `version`, the version of this program."""
        self.horizons_s = settings.horizons_s
        self._version, self._topics = version, settings.topics
        self._writer = Writer(settings.horizons_s, settings.topics)

    def forecasts(
        self,
        records: Records,
        answered: Sequence[Answered],
        models: Sequence[ModelRef],
        clocks_ms: tuple[float, float, float],
        traced: TracedBatch | None = None,
    ) -> list[EncodedBatch]:
        """Returns the encoded forecasts; those of `traced` pings have a header that names their spans.

        Raises ValueError for a number that is not finite.

        `models` are those that `answered` refers to. `clocks_ms` are when the records were fetched, when their batch
        started, and when the model had answered.
        """
        traceparents = {} if traced is None else traced.headers(records)
        return self._writer.written(records, answered, models, clocks_ms, traceparents)

    def reject(self, batch: EngineBatch, index: int, shard: Shard, reject: Reject) -> None:
        if batch.silent:
            return
        shard.counts.rejects += 1
        letter = dead_letter(self._topics.dead_letters, batch.records[index], reject, version=self._version)
        batch.others.append((index, letter))

    def gap_fill(
        self,
        batch: EngineBatch,
        outcome: Outcome,
        gap: Gap,
        status: GapStatus,
        fill: Fill | None,
        model: ModelRef,
        atlas: AtlasRef | None = None,
    ) -> None:
        outcome.shard.counts.gap_fills += 1
        record = batch.records[outcome.index]
        answer = gap_fill(record, outcome.entity.id, gap, status, fill, model, self._topics, atlas)
        batch.others.append((outcome.index, answer))


def gap_fill(
    record: Record,
    entity_id: str,
    gap: Gap,
    status: GapStatus,
    fill: Fill | None,
    model: ModelRef,
    topics: Topics,
    atlas: AtlasRef | None = None,
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
        atlas=atlas,
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
