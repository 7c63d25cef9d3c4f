"""Prepares a member that predicts arrivals: its topics, the destinations in force, and the fleet's history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakSet

from model.arrivals.believing import Fleet
from stream.kafka import admin
from stream.members.inputs import MemberSettings
from stream.members.running import Running, Service
from stream.services.arrivals.destinations import InForce
from stream.services.arrivals.geojson import geofences_of
from stream.services.arrivals.history import History, Renewing
from stream.services.arrivals.table import Table
from stream.services.arrivals.unit import ArrivalUnit
from stream.services.member import service as service_of
from stream.services.plan import Plan, Taken
from stream.wire.arrivals import geofence_key

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArrivalSettings(MemberSettings):
    """The settings of one member."""

    history: History | None
    history_every_s: float
    geofences: Path | None
    every_s: float
    most: int  # destinations and geofences

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.topics.forecasts,)


class Arrivals:
    """Makes the units of one member. Its table begins with the first of them."""

    def __init__(self, settings: ArrivalSettings) -> None:
        """Reads the history. Raises as `History.read`; ValueError or OSError for geofences that cannot be read."""
        self._settings = settings
        self._in_force = InForce(settings.most)
        if settings.geofences is not None:
            since_ms = int(settings.geofences.stat().st_mtime * 1000)
            for fence in geofences_of(settings.geofences):
                key = f"file:{geofence_key(fence.geofence_id, fence.entity_id)}"
                self._in_force.add_geofence(key.encode(), fence, since_ms)
        self._known = Renewing(settings.history, settings.history_every_s)
        self._table: Table | None = None
        self._units: WeakSet[ArrivalUnit] = WeakSet()  # of the partitions that are ours
        self._renewing: asyncio.Task[None] | None = None

    def provide(self, partitions: int) -> None:
        """Creates the topics that are absent. Raises as `admin.connect` and `admin.create`."""
        bootstrap, topics, kafka = self._settings.bootstrap, self._settings.topics, self._settings.kafka
        with admin.connect(bootstrap, kafka) as client:
            made = admin.create_other(client, topics, topics.destinations, partitions=1)
            made += admin.create_other(client, topics, topics.arrivals, partitions=partitions)
            admin.check_partitions(client, topics.arrivals, partitions)
            number = admin.partitions_of(client, topics.destinations)
        for topic in made:
            log.info("created %s with %s partitions", topic.name, topic.partitions)
        self._table = Table(bootstrap, topics.destinations, number, self._in_force, kafka)

    async def begin(self, taken: Taken) -> ArrivalUnit:
        """Returns the unit of a partition, once all is known that the owner before us has said. Raises as
        `Table.settle`."""
        assert self._table is not None  # `provide` comes first
        await self._table.settle()
        if self._renewing is None:  # it ends with the event loop
            self._renewing = asyncio.create_task(self._known.run(self._renew))
        settings = self._settings
        unit = ArrivalUnit(taken.number, settings.topics, self._in_force, self._known.fleet, settings.every_s)
        self._units.add(unit)
        return unit

    def _renew(self, fleet: Fleet) -> None:
        for unit in self._units:
            unit.fleet = fleet


def service(settings: ArrivalSettings) -> Service:
    """Returns one member. It raises as `Arrivals`, and as `stream.services.member.service`."""

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Running]:
        arrivals = await asyncio.to_thread(Arrivals, settings)
        plan = Plan(
            "arrivals", settings.inputs, settings.group, settings.bootstrap, once=settings.once, kafka=settings.kafka
        )
        async with service_of(plan, arrivals.begin, arrivals.provide).begin() as running:
            yield running

    return Service("arrivals", open_service)
