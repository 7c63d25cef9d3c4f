"""Shows forecasts in Traccar: each entity gets a second device there, whose position is where the entity will be.

They go to Traccar's OsmAnd port (5055), as org.traccar.protocol.OsmAndProtocolDecoder reads them: one POST for each,
with form parameters. The second device is `ID-forecast`, unless it is named otherwise, and must be known to Traccar, or
`database.registerUnknown` be true.

Not the device itself: a position of its own would mix guesses into its history and reports, and its session would pass
from the tracker's connection to ours, so that commands no longer reached the tracker. Nor the attributes of the device
by `PUT /api/devices/{id}`: that replaces the whole device by what we read of it before, also what a person has changed
meanwhile.

    id          ID-forecast
    timestamp   seconds since 1970 UTC: the time that the forecast is for
    lat, lon    where the entity will be then
    accuracy    metres: the radius of the circle around the 90 % region
    and as attributes of the position: pathcastForecast=true, horizonSeconds, anchorTime, forecastId

Traccar forwards these positions, too. `stream.adapters.live.formats.traccar` knows them by pathcastForecast, and skips
them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import sqrt
from typing import Final, NamedTuple

import aiohttp
import msgspec

from stream.adapters.live.formats.traccar import OWN
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, in_words
from stream.ingest.kafka_forward import follow_as_group
from stream.wire import Forecast, Record, Topics, loads_forecast
from stream.wire.positions import max_sigma_m, radius2

log: Final = logging.getLogger(__name__)

AT_ONCE: Final = 16  # requests
ANSWER_S: Final = 10.0
STALE_MS: Final = 60_000  # forecasts that are older than this are not sent: newer ones are to come
RETRY_S: Final = 5.0  # while Traccar does not answer
RADIUS_90: Final = sqrt(radius2(0.9))  # the longer half axis of the 90 % region, in standard deviations
DEVICE: Final = "{id}-forecast"


class BackSettings(NamedTuple):
    """States where forecasts come from and go to."""

    bootstrap: str
    topics: Topics
    group: str
    url: str
    horizon_s: float
    device: str = DEVICE  # {id} is the entity's id
    security: KafkaSecurity = PLAIN_KAFKA


async def run(settings: BackSettings) -> None:
    """Runs until it is cancelled. Raises ConnectionError if no broker answers at the start, Refused if one denies
    access."""
    sender = _Sender(settings)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S)) as session:

        async def take(records: Sequence[Record]) -> None:
            await sender.send_all(session, newest_of(records, time.time_ns() // 1_000_000 - STALE_MS))

        topic = settings.topics.forecasts
        await follow_as_group(settings.bootstrap, topic, settings.group, settings.security, take)


def newest_of(records: Iterable[Record], since_ms: int) -> list[Forecast]:
    """Returns the last forecast of each entity, without those of records older than `since_ms`, and without what is
    none."""
    newest = {one.key: one.value for one in records if one.value is not None and one.timestamp_ms >= since_ms}
    found = []
    for value in newest.values():
        with suppress(msgspec.DecodeError):
            found.append(loads_forecast(value))
    return found


def form_of(forecast: Forecast, horizon_s: float, device: str = DEVICE) -> dict[str, str]:
    """Returns the parameters of OsmAnd's protocol for the forecast's horizon that is nearest to `horizon_s`."""
    horizon = min(forecast.horizons, key=lambda one: abs(one.h_s - horizon_s))
    return {
        "id": device.replace("{id}", forecast.entity_id),
        "timestamp": str(round(forecast.anchor.ts / 1000 + horizon.h_s)),
        "lat": str(horizon.lat),
        "lon": str(horizon.lon),
        "accuracy": f"{RADIUS_90 * max_sigma_m(horizon.cov_m2):.0f}",
        OWN: "true",
        "horizonSeconds": f"{horizon.h_s:g}",
        "anchorTime": str(round(forecast.anchor.ts / 1000)),
        "forecastId": forecast.forecast_id,
    }


class _Sender:
    """Sends forecasts. What Traccar does not take is dropped: a newer forecast comes with the next ping."""

    def __init__(self, settings: BackSettings) -> None:
        self._settings = settings
        self._refused: set[tuple[str, int]] = set()  # devices, with the status that Traccar answered
        self._away = False

    async def send_all(self, session: aiohttp.ClientSession, forecasts: Iterable[Forecast]) -> None:
        room = asyncio.Semaphore(AT_ONCE)
        forms = (form_of(one, self._settings.horizon_s, self._settings.device) for one in forecasts if one.horizons)
        outcomes = await asyncio.gather(*(self._send(session, room, form) for form in forms), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, aiohttp.ClientError | TimeoutError):
                if not self._away:
                    log.warning("Traccar does not answer at the URL of --forecasts-to: %s", in_words(outcome))
                self._away = True
                await asyncio.sleep(RETRY_S)
                return
            if outcome is not None:
                raise outcome

    async def _send(self, session: aiohttp.ClientSession, room: asyncio.Semaphore, form: Mapping[str, str]) -> None:
        async with room, session.post(self._settings.url, data=form) as answer:
            status = answer.status
        if self._away:
            log.info("Traccar answers again")
            self._away = False
        which = form["id"], status
        if status >= 400 and which not in self._refused:
            self._refused.add(which)
            hint = "is it known there, or database.registerUnknown true?" if status == 400 else "is the URL right?"
            log.warning("Traccar answers %d for the device %r: %s", status, form["id"], hint)
