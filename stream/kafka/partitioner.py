"""Says where Kafka's default partitioner puts a key: Java's, which kafkajs, kafka-python, aiokafka and we have, too.

librdkafka (kcat, confluent-kafka) has another one, by CRC32, unless it is told `partitioner=murmur2_random`. Where both
send pings of one id, the entity lies in two partitions, each with a part of its pings.
"""

from __future__ import annotations

from typing import Final

from aiokafka.partitioner import murmur2

ADVICE: Final = (
    "give all who send pings one partitioner: librdkafka (kcat, confluent-kafka) needs partitioner=murmur2_random, "
    "Java, kafkajs and pathcast have it"
)


def hash_key(key: bytes) -> int:
    """Returns the hash of a key, of 31 bits, whose remainder by the number of partitions is the key's partition."""
    return int(murmur2(key)) & 0x7FFF_FFFF


def partition_of(key: bytes, partitions: int) -> int:
    """Returns the partition of a key in a topic of so many."""
    return hash_key(key) % partitions
