"""An entity as the page gets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from stream.api.map.fleet.moments import Moment, next_of

_ENCODER: Final = msgspec.json.Encoder()  # escapes what has to be: ids may hold anything


Points = Sequence[tuple[int, float, float]]  # time, latitude, longitude


def entity_json(
    entity_id: str, moment: Moment, *, stale: bool, track: Points | None = None, ahead: Points | None = None
) -> bytes:
    """Returns an entity as JSON, with its track and the pings after it if these are given. What is unknown is null."""
    members: dict[str, Any] = {
        "id": entity_id,
        "ts": moment.ts,
        "lat": moment.lat,
        "lon": moment.lon,
        "east_mps": round(moment.d_east_m / moment.dt_s, 3),
        "north_mps": round(moment.d_north_m / moment.dt_s, 3),
        "next": next_of(moment),
        "horizons": [
            {"h_s": h_s, "lat": lat, "lon": lon, "cov_m2": cov_m2} for h_s, lat, lon, *cov_m2 in moment.horizons
        ],
        "status": moment.status,
        "cache": moment.cache,
        "weights": moment.weights,
        "atlas": moment.atlas,
        "latency_ms": None if moment.latency_ms is None else round(moment.latency_ms, 1),
        "stale": stale,
    }
    if moment.passages:
        members["passages"] = moment.passages
    if moment.branches:
        members["branches"] = [{"share": share, "positions": positions} for share, positions in moment.branches]
    if track is not None:
        members["track"] = track
    if ahead is not None:
        members["ahead"] = ahead
    return _ENCODER.encode(members)
