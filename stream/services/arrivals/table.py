"""The destinations topic, read by each member whole: what is asked for, up to the last look."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.config.security import PLAIN_KAFKA, KafkaSecurity, in_words
from stream.kafka.reading import reader, reread
from stream.services.arrivals.destinations import InForce
from stream.services.member import AWAY

log: Final = logging.getLogger(__name__)

LOOK_S: Final = 0.5  # between two looks: how soon a new destination counts
RETRY_S: Final = 2.0
SETTLED_S: Final = 90.0  # brokers end what nobody commits after a minute
_COMMITTED: Final = "read_committed"


class Table:
    """Keeps `in_force` as the topic has it.

    A look asks for the ends of the log, and reads what is new, if anything is: a request of a millisecond nearly
    always. Only what is committed counts.
    """

    def __init__(
        self, bootstrap: str, topic: str, partitions: int, in_force: InForce, security: KafkaSecurity = PLAIN_KAFKA
    ) -> None:
        self.in_force = in_force
        self._bootstrap = bootstrap.split(",")
        self._access = security.arguments()
        self._tps = [TopicPartition(topic, number) for number in range(partitions)]
        self._read = dict.fromkeys(self._tps, 0)  # the next offset of each
        self._looking: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """Returns when all is read that anybody has begun to write by now, and then committed. The first call begins to
        look, which ends with the event loop.

        What the owner before us has committed may lie behind what another one has begun and not committed, where no
        reader of what is committed gets to; so the ends are those of all that is written.

        Raises KafkaError, or TimeoutError if the brokers do not answer.
        """
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on())
        async with reader(self._bootstrap, self._access, "read_uncommitted") as asker:
            ends = await asker.end_offsets(self._tps)
        async with asyncio.timeout(SETTLED_S):
            while any(self._read[tp] < end for tp, end in ends.items()):
                await asyncio.sleep(LOOK_S / 10)
                if self._looking.done():
                    self._looking.result()

    async def _look_on(self) -> None:
        while True:
            try:
                async with reader(self._bootstrap, self._access, _COMMITTED) as asker:
                    while True:
                        await self._look(asker)
                        await asyncio.sleep(LOOK_S)
            except (*AWAY, RuntimeError) as error:
                log.warning("new destinations are not heard of: %s; again in %g s", in_words(error), RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def _look(self, asker: AIOKafkaConsumer) -> None:
        ends = await asker.end_offsets(self._tps)
        for tp, end in ends.items():
            if end < self._read[tp]:
                log.warning("%s/%d ends at %d and was read to %d: it is another one", *tp, end, self._read[tp])
                self._read[tp] = 0
            if end > self._read[tp]:
                await self._read_on(tp, end)

    async def _read_on(self, tp: TopicPartition, end: int) -> None:
        parts = reread(
            self._bootstrap,
            (tp.topic, tp.partition),
            self._read[tp],
            end,
            access=self._access,
            isolation=_COMMITTED,
        )
        async for records in parts:
            columns = records.keys.each(), records.values.each(), records.timestamps_ms.tolist()
            for key, value, ts_ms in zip(*columns, strict=True):  # again after an error: as good as once
                self.in_force.put(key, value, ts_ms)
        self._read[tp] = end
