"""What must hold while a fault lasts: a partition that it does not touch goes on.

A partition is touched by what happens to its owner, to the group, to the brokers, or to its own leader. Redis touches
only partitions that are not taken over yet: of all others each ping is answered, if need be as that of a new entity.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stage import Stage

LIMIT_S: Final = 20.0  # four times what a partition waits for stored records
LOOK_S: Final = 1.0
UNTOUCHING: Final = {
    *("ping", "aborted", "cut_redis", "redis_lost", "redis_older", "redis_evicts", "redis_refuses", "redis_restarts"),
    "no_leader",  # but for its own partition
}


class Liveness:
    """Watches how long each partition has been held up."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._since: dict[int, tuple[object, float]] = {}  # what has not changed, and since when

    async def keep(self) -> None:
        """Looks again and again, for as long as the world lasts."""
        events = self._stage.plan.events
        if any(event.kind.endswith("_at") for event in events) or not self._lasts_long():
            return
        touches = [(event.at_s, event.at_s + event.for_s) for event in events if event.kind not in UNTOUCHING]
        begin_s = self._stage.world.loop.time()
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = self._stage.world.loop.time() - begin_s
            if any(at_s <= now_s <= until_s for at_s, until_s in touches):
                self._since.clear()
            else:
                self._look(now_s)

    def _lasts_long(self) -> bool:
        """Returns whether there is a fault that lasts for long enough to hold anybody up."""
        return any(event.for_s > LIMIT_S for event in self._stage.plan.events if event.kind in UNTOUCHING)

    def _look(self, now_s: float) -> None:
        stage = self._stage
        pings, group = stage.settings.topics.pings, stage.settings.group
        seen = set()
        for place in stage.places:
            host, worker = place.host, place.worker
            if host is None or host.is_dead or host.is_paused or worker is None or not hasattr(worker, "delivery"):
                continue
            for one in worker.delivery.status().partitions:
                number = one.partition[1]
                committed = stage.kafka.committed(group, (pings, number))
                is_led = (pings, number) not in stage.kafka.cluster._leaderless
                if one.ready and is_led and committed < stage.kafka.last_record_end((pings, number)):
                    seen.add(number)
                    self._note(number, (host, one.epoch, committed), now_s)
        for number in self._since.keys() - seen:
            del self._since[number]

    def _note(self, number: int, state: object, now_s: float) -> None:
        before, since_s = self._since.get(number, (None, 0.0))
        if before != state:
            self._since[number] = state, now_s
        elif now_s - since_s > LIMIT_S:
            self._stage.note_broken(f"held up: partition {number} waits for {LIMIT_S:.0f} s, and no fault touches it")
