"""The records of the scores topic: what became of a forecast, and that forecasts have become better or worse.

    <prefix>.scores.v1         entity id   Score: one past forecast against the pings that then came
                               partition   Drift: what changed in a partition's scores

`kind` tells the two apart. Both are the same whoever makes them from the same forecasts topic, so a copy has the same
`forecast_id` or `drift_id`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Literal

import msgspec

from stream.wire.ids import ID_CHARS, ID_SEPARATOR
from stream.wire.messages import AtlasRef, ModelRef, Status, decoded

Measured = Literal["error", "skill", "coverage", "cadence"]
MEASURED: Final[tuple[Measured, ...]] = ("error", "skill", "coverage", "cadence")


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record that leaves out each field equal to its default."""


class Outcome(_Wire, frozen=True):
    """What came of one horizon, or of the next step, for which `h_s` is absent. All else is absent if no ping came that
    could tell.

    `dt_s` is the time from the anchor to the ping that the forecast was compared with, at that time. `damped_error_m`
    is the error of damped velocity for the same ping; it is absent where nothing was known of the entity before the
    anchor. The regions are those of Student's t (stream.wire.positions.radius2).
    """

    h_s: float | None = None
    dt_s: float | None = None
    error_m: float | None = None
    damped_error_m: float | None = None
    inside50: bool | None = None
    inside90: bool | None = None


class Score(_Wire, frozen=True, kw_only=True, tag_field="kind", tag="score"):
    """One forecast against what then happened."""

    forecast_id: str
    entity_id: str
    anchor_ts: int
    model: ModelRef
    atlas: AtlasRef | None = None
    status: Status  # of the forecast
    next: Outcome
    horizons: tuple[Outcome, ...]


class Drift(_Wire, frozen=True, kw_only=True, tag_field="kind", tag="drift"):
    """A lasting change of what a partition's scores have in common.

    `measured` is `error`: the log of the error in metres; `skill`: the log of error over damped velocity's;
    `coverage`: the share inside 90 % regions; or `cadence`: the log of the seconds between two pings. All are of the
    next ping. `before` and `after` are means of it.
    """

    drift_id: str
    measured: Measured
    topic: str
    partition: int
    offset: int  # of the forecast record at which it was found
    anchor_ts: int  # of the last forecast that was scored before that
    before: float
    after: float
    before_n: int  # scores
    after_n: int


def drift_id(topic: str, partition: int, offset: int, measured: str) -> str:
    parts = ID_SEPARATOR.join((topic, str(partition), str(offset), measured))
    return blake2b(parts.encode(), digest_size=ID_CHARS // 2).hexdigest()


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Score | Drift)


def dumps_scored(record: Score | Drift) -> bytes:
    return _ENCODER.encode(record)


def loads_scored(raw: bytes) -> Score | Drift:
    """Parses a record of the scores topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    found: Score | Drift = decoded(_DECODER, raw)
    return found
