"""`pathcast tail`: shows the records of an output topic as they come."""

from __future__ import annotations

import base64
import math
import re
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import typer

from stream.config.options import COMMON, Common, Follow, From, Json, Limit, OnlyEntity, Start, utc, with_common
from stream.config.wording import counted
from stream.wire import Forecast, GapFill, Record, context_of, loads_forecast, loads_gapfill
from stream.wire.escape import escaped, escaped_json
from stream.wire.positions import rms_sigma_m


class Output(StrEnum):
    FORECASTS = "forecasts"
    GAPFILLS = "gapfills"
    ARRIVALS = "arrivals"
    DEAD_LETTERS = "dead-letters"


@with_common
def tail(
    what: Annotated[Output, typer.Argument(help="which records to show")],
    entity: OnlyEntity = None,
    start: From = Start.LATEST,
    limit: Limit = None,
    wait: Follow = True,
    common: Common = COMMON,
    json: Json = False,
) -> None:
    """Show forecasts, gap fills, arrivals or dead letters as they come.

    [bold]Examples[/]

      pathcast tail forecasts
      pathcast tail forecasts --entity 5007 --limit 10
      pathcast tail gapfills --from earliest --no-follow --json > gapfills.ndjson
      pathcast tail arrivals --entity 12
      pathcast tail dead-letters --from earliest
    """
    from stream.kafka.following import show
    from stream.kafka.reading import INPUT_ISOLATION

    names = common.topics
    topic = {
        Output.FORECASTS: names.forecasts,
        Output.GAPFILLS: names.gapfills,
        Output.ARRIVALS: names.arrivals,
        Output.DEAD_LETTERS: names.dead_letters,
    }[what]

    def line(record: Record) -> bytes:
        if what is Output.DEAD_LETTERS:
            return dead_letter_json(record) if json else dead_letter_line(record).encode()
        if json:
            return escaped_json(record.value or b"")  # canonical JSON already
        if what is Output.ARRIVALS:
            from stream.services.arrivals.setting import line as arrival_line

            return arrival_line(record.value or b"").encode()
        return (forecast_line if what is Output.FORECASTS else gapfill_line)(record.value or b"").encode()

    show(
        *(common.bootstrap, topic, line, common.security),
        entity=entity,
        limit=limit,
        earliest=start is Start.EARLIEST,
        stop_at_end=not wait,
        isolation=INPUT_ISOLATION if what is Output.ARRIVALS else "read_uncommitted",
    )


COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
NUMBER: Final = re.compile(r"-?[0-9]{1,19}")


def forecast_line(raw: bytes) -> str:
    """Returns one forecast for people: entity, time, place, next step and its sigma, each horizon, how it was made."""
    forecast: Forecast = loads_forecast(raw)
    step = forecast.next
    ahead = f"{math.hypot(step.d_east_m, step.d_north_m):.0f} m {_compass(step.d_east_m, step.d_north_m)}"
    parts = [
        f"{utc(forecast.anchor.ts)}  {forecast.entity_id:<12}",
        f"{forecast.anchor.lat:.5f},{forecast.anchor.lon:.5f}",
        f"next in {step.dt_s:.0f} s: {ahead} ±{rms_sigma_m(step.cov_m2):.0f} m",
        *(f"{_span(h.h_s)}: {h.lat:.5f},{h.lon:.5f} ±{rms_sigma_m(h.cov_m2):.0f} m" for h in forecast.horizons),
        f"{forecast.status} {forecast.cache} n={forecast.window.n}",
    ]
    return escaped("  ".join(parts))


def gapfill_line(raw: bytes) -> str:
    """Returns one gap fill for people: start, entity, duration, number of points, length, the largest sigma."""
    fill: GapFill = loads_gapfill(raw)
    seconds = (fill.end.ts - fill.start.ts) / 1000
    parts = [
        f"{utc(fill.start.ts)}  {fill.entity_id:<12}",
        f"{_span(seconds)} of {fill.reason}: {counted(len(fill.points), 'point')} over {fill.length_m:.0f} m",
        f"±{fill.max_sigma_m:.0f} m at most",
        f"{fill.method}, {fill.status}, revision {fill.revision}",
    ]
    return escaped("  ".join(parts))


def dead_letter_json(record: Record) -> bytes:
    """Returns one dead letter as a JSON object: the record (base64 if it is not UTF-8), its source, what was wrong."""
    context = context_of(record.headers)
    fields: dict[str, Any] = {name: context.get(name) for name in ("code", "message", "stage", "topic")}
    fields |= _read_numbers(context)
    for name, raw in (("key", record.key), ("value", record.value)):
        try:
            fields[name] = None if raw is None else raw.decode()
        except UnicodeDecodeError:
            fields[f"{name}_base64"] = base64.b64encode(raw or b"").decode()
    return escaped_json(msgspec.json.encode(fields))


def dead_letter_line(record: Record) -> str:
    """Returns one dead letter for people: time, key, what was wrong, and the beginning of the value."""
    context = context_of(record.headers)
    published_ms = _read_numbers(context).get("timestamp", record.timestamp_ms)
    came = (record.value or b"")[:120].decode(errors="replace")
    key = (record.key or b"-").decode(errors="replace")
    parts = [
        f"{utc(published_ms)}  {key:<12}",
        f"{context.get('code', 'unknown')}: {context.get('message', '')}",
        came,
    ]
    return escaped("  ".join(parts))


def _read_numbers(context: dict[str, str]) -> dict[str, int]:
    """Returns the fields that are numbers. Others are left out, as a record in the topic need not be one of ours."""
    names = ("partition", "offset", "timestamp")
    return {name: int(context[name]) for name in names if NUMBER.fullmatch(context.get(name, ""))}


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:g} min"
        if seconds % 60 == 0
        else f"{seconds / 60:.1f} min"
    )


def _compass(east_m: float, north_m: float) -> str:
    return COMPASS[round(math.degrees(math.atan2(east_m, north_m)) / 45) % 8]
