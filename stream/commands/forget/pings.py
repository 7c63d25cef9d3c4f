"""Writes the record that asks workers to forget an entity into every partition of the pings topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream.config.security import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.wire.record import FORGET_HEADERS

TIMEOUT_MS = 30_000


async def send(
    bootstrap: str,
    topic: str,
    partitions: Sequence[int],
    entity_id: str,
    headers: Sequence[tuple[str, bytes]] = FORGET_HEADERS,
    security: KafkaSecurity = PLAIN_KAFKA,
) -> Mapping[int, int]:
    """Writes a record with the entity's id as its key and no value into each of these partitions, and returns its
    offset in each. Raises ConnectionError, Refused."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap.split(","),
        **security.arguments(),
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=TIMEOUT_MS,
    )
    try:
        await producer.start()
        return {
            number: (
                await producer.send_and_wait(
                    topic, None, key=entity_id.encode(), partition=number, headers=list(headers)
                )
            ).offset
            for number in partitions
        }
    except KafkaError as error:
        refusal = kafka_refusal(bootstrap, security, error)
        raise refusal or ConnectionError(f"{topic} at {bootstrap} was not written: {error!r}") from error
    finally:
        await producer.stop()
