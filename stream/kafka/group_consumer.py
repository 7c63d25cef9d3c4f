"""The consumer of a process that shares a topic's partitions with others of its group, and commits offsets itself."""

from __future__ import annotations

from typing import Any, Final

from aiokafka import AIOKafkaConsumer

from stream.config.security import KafkaSecurity
from stream.kafka import fetcher
from stream.kafka.patches import patch_aiokafka
from stream.kafka.reading import INPUT_ISOLATION

SESSION_S: Final = 10.0  # how soon the group notices that a member is dead


def group_consumer(bootstrap: str, security: KafkaSecurity, group: str, **more: Any) -> AIOKafkaConsumer:
    """Returns a consumer that is not started; it reads record columns. `more` are further options of aiokafka."""
    patch_aiokafka()
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        **security.arguments(),
        group_id=group,
        enable_auto_commit=False,
        isolation_level=INPUT_ISOLATION,
        key_deserializer=fetcher.COLUMNS,
        auto_offset_reset="earliest",
        session_timeout_ms=int(SESSION_S * 1000),
        metadata_max_age_ms=10_000,  # how soon new partitions are found
        **more,
    )
