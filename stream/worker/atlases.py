"""What a worker needs to ask atlases, where `--atlases` names their directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from stream.config.security import kafka_refusal
from stream.config.settings import Settings
from stream.versions.hearing import Hearing
from stream.versions.serving import Versions
from stream.worker.faust_driver import Consumer


@asynccontextmanager
async def hearing(settings: Settings) -> AsyncIterator[Hearing | None]:
    """Yields what has heard which atlases serve; None if no atlas is to be asked. Raises Refused or KafkaError."""
    if settings.atlases is None:
        yield None
        return
    async with Hearing.opened(settings.bootstrap, settings.topics, settings.kafka) as found:
        try:
            await found.look()
        except KafkaError as error:
            if (refusal := kafka_refusal(settings.bootstrap, settings.kafka, error)) is not None:
                raise refusal from error
            raise
        yield found


def versions(settings: Settings, heard: Hearing | None, consumer: Consumer) -> Versions | None:
    """Returns what chooses the atlas of each ping of this consumer, if any is to be asked."""
    if settings.atlases is None or heard is None:
        return None
    pings = settings.topics.pings
    return Versions(
        heard,
        settings.atlases,
        hold_s=settings.atlas_lead_s / 2,
        log_end=lambda number: consumer.log_end((pings, number)),
    )
