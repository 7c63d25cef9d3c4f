"""`pathcast arrivals run`: one member of the group that tells arrivals."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final
from weakref import WeakSet

from model.arrivals.believing import Fleet
from stream.config.options import log_to_stderr
from stream.kafka import admin
from stream.services import running
from stream.services.arrivals.destinations import InForce
from stream.services.arrivals.geojson import geofences_of
from stream.services.arrivals.history import History, Renewing
from stream.services.arrivals.table import Table
from stream.services.arrivals.unit import ArrivalUnit
from stream.services.plan import Plan, Taken
from stream.wire import Topics
from stream.wire.arrivals import geofence_key

log: Final = logging.getLogger(__name__)


class Arrivals:
    """What one member makes its units of. Its table begins with the first of them."""

    def __init__(self, plan: Plan, topics: Topics, in_force: InForce, known: Renewing, every_s: float) -> None:
        self._plan = plan
        self._topics = topics
        self._in_force = in_force
        self._known = known
        self._every_s = every_s
        self._table: Table | None = None
        self._units: WeakSet[ArrivalUnit] = WeakSet()  # of the partitions that are ours
        self._renewing: asyncio.Task[None] | None = None

    def provide(self, partitions: int) -> None:
        """Creates the topics that are absent. Raises as `admin.connected` and `admin.create`."""
        topics = self._topics
        with admin.connected(self._plan.bootstrap, self._plan.kafka) as client:
            made = admin.create_other(client, topics, topics.destinations, partitions=1)
            made += admin.create_other(client, topics, topics.arrivals, partitions=partitions)
            admin.check_partitions(client, topics.arrivals, partitions)
            number = admin.partitions_of(client, topics.destinations)
        for topic in made:
            log.info("created %s with %s partitions", topic.name, topic.partitions)
        self._table = Table(self._plan.bootstrap, topics.destinations, number, self._in_force, self._plan.kafka)

    async def begin(self, taken: Taken) -> ArrivalUnit:
        """Returns the unit of a partition, once all is known that the owner before us has said. Raises as
        `Table.settle`."""
        assert self._table is not None  # `provide` comes first
        await self._table.settle()
        if self._renewing is None:  # it ends with the event loop
            self._renewing = asyncio.create_task(self._known.run(self._renewed))
        unit = ArrivalUnit(taken.number, self._topics, self._in_force, self._known.fleet, self._every_s)
        self._units.add(unit)
        return unit

    def _renewed(self, fleet: Fleet) -> None:
        for unit in self._units:
            unit.fleet = fleet


def run(
    plan: Plan,
    topics: Topics,
    history: History | None,
    geofences: Path | None,
    *,
    every_s: float,
    most: int,
    history_every_s: float,
    metrics: str,
) -> None:
    """Runs one member. Raises as `running.run`, and `History.read`; ValueError or OSError for a file of geofences that
    cannot be read."""
    log_to_stderr()
    in_force = InForce(most)
    if geofences is not None:
        since_ms = int(geofences.stat().st_mtime * 1000)
        for fence in geofences_of(geofences):
            key = f"file:{geofence_key(fence.geofence_id, fence.entity_id)}"
            in_force.add_geofence(key.encode(), fence, since_ms)
    arrivals = Arrivals(plan, topics, in_force, Renewing(history, history_every_s), every_s)
    running.run(plan, arrivals.begin, metrics, arrivals.provide)
