"""Removes an entity from the compacted topic of newest forecasts.

A null value removes the key at the next compaction, and every reader at once. `pathcast latest run` writes the entity
again only if a forecast of it comes: so this is done when the workers have forgotten it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiokafka.errors import KafkaError

from stream.commands.forget import pings
from stream.commands.forget.findings import Finding, Outcome
from stream.config.security import KafkaSecurity, kafka_refusal
from stream.kafka.log import bounds, reread

PLACE: Final = "newest forecasts"


async def look(bootstrap: str, topic: str, partitions: int, entity_id: str, security: KafkaSecurity) -> list[int]:
    """Returns the partitions in which the entity has a value. It reads the topic. Raises ConnectionError, Refused."""
    servers, access = bootstrap.split(","), security.arguments()
    all_of_it = [(topic, number) for number in range(partitions)]
    found = []
    try:
        for partition, (begin, end) in (await bounds(servers, all_of_it, access=access)).items():
            has = False
            async for records in reread(servers, partition, begin, end, access=access):
                for row, key in enumerate(records.keys.each()):
                    if key == entity_id.encode():
                        has = bool(records.values.lengths[row] >= 0)
            if has:
                found.append(partition[1])
    except KafkaError as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"{topic} at {bootstrap} cannot be read: {error!r}") from error
    return sorted(found)


async def removed(
    bootstrap: str, topic: str, numbers: Sequence[int], entity_id: str, security: KafkaSecurity, *, dry_run: bool
) -> Finding:
    """Writes a null value where the entity has one."""
    if not numbers:
        return Finding(PLACE, Outcome.ABSENT, f"nothing in {topic}")
    found = f"in {topic}, partition {', '.join(map(str, numbers))}"
    if dry_run:
        return Finding(PLACE, Outcome.FOUND, found)
    await pings.send(bootstrap, topic, numbers, entity_id, (), security)
    return Finding(PLACE, Outcome.REMOVED, found, "earlier values stay until the topic is compacted")
