"""Everything of a world that is Redis: the model, and the link to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from modelled_redis import RedisServer
from redis_edge import Link, modelled
from redis_refusals import REFUSALS
from virtual_loop import HOST, SERVERS, Host
from world import World

from stream.kafka.log import Partition
from stream.store.redis_scripts import FIELD_EPOCH, FIELD_OFFSET, FIELD_WRITES
from stream.store.redis_store import CALL_TIMEOUT_S, KEY_META, KEY_PARTITION

T = TypeVar("T")
SERVER: Final = "redis"
META: Final = (FIELD_EPOCH, FIELD_OFFSET, FIELD_WRITES)


class WorldsLink(Link):
    """Carries requests through the network of the world."""

    def __init__(self, world: World, look: Callable[[Host], None]) -> None:
        self._world = world
        self._look = look

    async def call(self, work: Callable[[], T]) -> T:
        host = HOST.get()

        def work_and_look() -> T:
            try:
                return work()
            finally:
                self._look(host)

        return await self._world.network.call(
            SERVER, work_and_look, lost=lambda: ConnectionResetError("connection lost"), after_s=CALL_TIMEOUT_S
        )

    def tears(self) -> bool:
        return self._world.chance.random() < 0.1


class RedisSide:
    """The Redis of a world."""

    def __init__(self, world: World, look: Callable[[Host], None]) -> None:
        """Takes `look`, which is called after each request, with who sent it."""
        self._world = world
        self._look = look
        self.server = RedisServer(world.wall_s)
        self.link = WorldsLink(world, look)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        with modelled(self.server, self.link):
            yield

    def next_offset(self, group: str, partition: Partition) -> int | None:
        """Returns up to where the checkpoint of a partition goes."""
        return self.meta(group, partition).get("next_offset")

    def meta(self, group: str, partition: Partition) -> dict[str, int]:
        """Returns what stands beside a partition's records: epoch, writes and next_offset, where there are any."""
        key = KEY_PARTITION.format(group=group, topic=partition[0], number=partition[1]) + KEY_META
        found: Any = self.server.data.values.get(key.encode()) or {}
        return {name: int(raw) for name in META if (raw := found.get(name.encode())) is not None}

    # -- faults

    def lose_all(self) -> None:
        self.server.lose_all()
        self._look(SERVERS)

    def snapshot(self) -> Any:
        return self.server.snapshot()

    def restore(self, snapshot: Any) -> None:
        (self.server.restart if self._world.chance.random() < 0.5 else self.server.restore)(snapshot)
        self._look(SERVERS)

    def evict(self, share: float) -> None:
        self.server.evict_some(self._world.chance, share)

    def refuse(self, refuses: bool, which: int) -> None:
        kinds = sorted(REFUSALS)
        self.server.refuse(kinds[which % len(kinds)], on=refuses)

    def go_away(self, away: bool) -> None:
        """Stops the server, or starts it again with all that it had."""
        if not away and self.server.away:
            self.server.restart(self.server.snapshot())
        self.server.away = away

    def heal(self) -> None:
        self.go_away(False)
        for kind in sorted(REFUSALS):
            self.server.refuse(kind, on=False)
