"""The records of the scores topic: the errors of forecasts, and lasting changes of them.

    <prefix>.scores.v1         entity id   Score: one past forecast against the pings that then came
                               partition   Drift: what changed in a partition's scores

`kind` tells the two apart. Both are the same whoever makes them from the same forecasts topic, so a copy has the same
`forecast_id` or `drift_id`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Final, Literal

import msgspec

from stream.wire.ids import ID_CHARS, ID_SEPARATOR
from stream.wire.messages import EPOCH_MS, AtlasRef, EntityKey, ModelRef, Status, WireStruct, decode, means

Measured = Literal["error", "skill", "coverage", "cadence"]
MEASURED: Final[tuple[Measured, ...]] = ("error", "skill", "coverage", "cadence")


class Outcome(WireStruct, frozen=True):
    """The error at one horizon, or at the next ping. All but h_s is absent if no ping came near that time.

    The regions are those of Student's t (stream.wire.positions.radius2).
    """

    h_s: Annotated[float | None, means("the horizon in seconds; absent for the next ping")] = None
    dt_s: Annotated[float | None, means("seconds from the anchor to the ping that the forecast was compared with")] = (
        None
    )
    error_m: Annotated[float | None, means("metres between the forecast at that time and the ping")] = None
    damped_error_m: Annotated[
        float | None, means("the same for damped velocity; absent where nothing was known of the entity before")
    ] = None
    inside50: Annotated[bool | None, means("whether the ping was inside the 50 % region")] = None
    inside90: Annotated[bool | None, means("whether the ping was inside the 90 % region")] = None


class Score(WireStruct, frozen=True, kw_only=True, tag_field="kind", tag="score"):
    """One forecast against what then happened."""

    forecast_id: Annotated[str, means("that of the forecast: drop duplicates by it")]
    entity_id: EntityKey
    anchor_ts: Annotated[int, means(f"time of the ping that the forecast starts from, {EPOCH_MS}")]
    model: Annotated[ModelRef, means("the weights that made the forecast")]
    atlas: Annotated[AtlasRef | None, means("the atlas that the forecast asked")] = None
    status: Annotated[Status, means("the forecast's status")]
    next: Annotated[Outcome, means("against the entity's next ping")]
    horizons: Annotated[tuple[Outcome, ...], means("against the ping nearest to each horizon")]


class Drift(WireStruct, frozen=True, kw_only=True, tag_field="kind", tag="drift"):
    """A lasting change of what a partition's scores have in common."""

    drift_id: Annotated[str, means("always the same for the same drift: drop duplicates by it")]
    measured: Annotated[
        Measured,
        means(
            "the measure of the next ping that has changed. error: the log of the error in metres; skill: the log of "
            "error over damped velocity's; coverage: the share inside 90 % regions; cadence: the log of the seconds "
            "between two pings"
        ),
    ]
    topic: Annotated[str, means("the forecasts topic")]
    partition: Annotated[int, means("its partition")]
    offset: Annotated[int, means("the forecast's record at which it was found")]
    anchor_ts: Annotated[int, means(f"the last forecast that was scored before that, {EPOCH_MS}")]
    before: Annotated[float, means("the mean before")]
    after: Annotated[float, means("the mean after")]
    before_n: Annotated[int, means("scores in the mean before")]
    after_n: Annotated[int, means("scores in the mean after")]


def drift_id(topic: str, partition: int, offset: int, measured: str) -> str:
    parts = ID_SEPARATOR.join((topic, str(partition), str(offset), measured))
    return blake2b(parts.encode(), digest_size=ID_CHARS // 2).hexdigest()


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Score | Drift)


def dumps_scored(record: Score | Drift) -> bytes:
    return _ENCODER.encode(record)


def loads_scored(raw: bytes) -> Score | Drift:
    """Parses a record of the scores topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    record: Score | Drift = decode(_DECODER, raw)
    return record
