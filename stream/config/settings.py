"""The settings of a worker, with defaults, units and bounds.

The command line and its environment variables fill them in (`PATHCAST_BOOTSTRAP`, `PATHCAST_REDIS`, ...).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from stream.config.security import PLAIN_KAFKA, PLAIN_REDIS, KafkaSecurity, RedisSecurity
from stream.wire import Topics

DEFAULT_HORIZONS_S = (60.0, 300.0, 900.0)
UNLIMITED = 1 << 62  # entities


class DeliveryGuarantee(StrEnum):
    """Holds what a subscriber may rely on (`stream.delivery.guarantees`)."""

    AT_LEAST_ONCE = "at_least_once"
    EXACTLY_ONCE = "exactly_once"


class Compression(StrEnum):
    """The compression of what a worker publishes.

    Kafka's other codecs cost more (reports/bench.md, "Compression").
    """

    NONE = "none"
    SNAPPY = "snappy"
    ZSTD = "zstd"


class Traces(NamedTuple):
    """States which entities a process traces, and how spans name them. OpenTelemetry's variables say where spans go."""

    share: float = 0.0  # of the entities; 0: nothing is
    entity_ids: bool = False  # in spans; else a keyed hash stands for the entity


NO_TRACES: Final = Traces()


@dataclass(frozen=True)
class Settings:
    """One worker's settings."""

    bootstrap: str = "127.0.0.1:9092"  # Kafka, host:port[,host:port...]
    redis_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)  # it may hold a password
    weights: str = "small"  # a bundled name or a directory
    group: str = "pathcast"  # the Kafka consumer group: its workers share the partitions
    prefix: str = "pathcast"  # of every topic
    horizons_s: tuple[float, ...] = DEFAULT_HORIZONS_S
    max_batch: int = 8192  # pings. The fixed cost of a batch, some 4 ms, is small then; only a backlog fills one
    max_wait_ms: float = 0.0  # for more pings; they gather before they are fetched, too (stream.kafka.pacing)
    # Pause between two checkpoints of a partition; a takeover replays what came since the last.
    checkpoint_ms: float = 1_000.0
    state_ttl_s: int = 7 * 24 * 3600  # an entity that is silent for longer starts anew
    max_entities: int = 131_072  # in memory, at 12 KB each; the others are read from Redis at their next ping
    # Entities of one partition with states in Redis; pings of further new ones become dead letters. It is twice what a
    # worker holds in memory by default: a fleet with more should first get more partitions.
    max_stored_entities: int = 262_144
    session_timeout_s: float = 10.0  # how soon the group notices a dead worker
    delivery: DeliveryGuarantee = DeliveryGuarantee.AT_LEAST_ONCE
    compression: Compression = Compression.NONE
    atlases: Path | None = None  # the directory of atlas files; None: no atlas is asked
    registry: str | None = None  # where versions of weights lie, a directory or a URL; None: they do not change
    # A preset or a file with a map, which reads records of the pings topic that are no pings of ours
    # (stream.adapters.live.on_topic). Workers and their verifier must have the same.
    map: str | None = None
    # How far ahead versions are announced. Half of it is what a partition waits for one.
    lead_s: float = 60.0
    instance: str = ""  # a static member's name: it keeps its partitions over a restart within the session timeout
    trace_share: float = 0.0  # of the entities, whose pings are traced (stream.tracing); 0: nothing is
    trace_entity_ids: bool = False  # in spans; else a keyed hash stands for the entity
    kafka: KafkaSecurity = PLAIN_KAFKA
    redis: RedisSecurity = PLAIN_REDIS
    topics: Topics = field(init=False)

    def __post_init__(self) -> None:
        if not self.horizons_s or any(not 0 < h <= 86_400 for h in self.horizons_s):
            raise ValueError(f"horizons must be in 0..86400 s, got {self.horizons_s}")
        if self.max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {self.max_batch}")
        if self.max_entities < 1:
            raise ValueError(f"max_entities must be at least 1, got {self.max_entities}")
        if self.max_stored_entities < 1:
            raise ValueError(f"max_stored_entities must be at least 1, got {self.max_stored_entities}")
        if self.lead_s <= 0:
            raise ValueError(f"lead_s must be above 0, got {self.lead_s}")
        if not 0 <= self.trace_share <= 1:
            raise ValueError(f"trace_share must be from 0 to 1, got {self.trace_share}")
        object.__setattr__(self, "topics", Topics.of(self.prefix))

    @property
    def asks_versions(self) -> bool:
        """Returns whether the models topic decides what forecasts ask."""
        return self.atlases is not None or self.registry is not None


# Limit of one fetch and partition, some 600 pings: so a poll brings pings of several partitions, and none waits for
# another's megabyte, which is Faust's setting. With 256 KiB a backlog did not drain measurably faster.
FETCH_BYTES = 64 * 1024
