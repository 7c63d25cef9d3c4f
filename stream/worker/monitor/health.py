"""Describes a worker at one moment, and decides whether it is alive and ready. Pure: no clock, no network;
`stream.worker.monitor.monitor` takes the readings.

There are two questions, for two kinds of probe. Is it alive, or would a new process do better? Then an orchestrator may
restart it. Is it ready: does it do its work now? It may not be ready while another process would do no better: Kafka or
Redis is away, or the worker takes partitions over. So a reason for not being ready must not count as a reason for a
restart.

Reasons name partitions and counts, but no address, entity or error text: anybody who reaches the port may read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stream.delivery.accounts import Account, Spread
from stream.engine.counts import Counts
from stream.worker.monitor.broker_monitor import Silence

# A batch that is in the engine for so long is stuck, unless Redis is away: it takes milliseconds, or two minutes if
# kernels must be compiled on an overloaded machine. A broker that is away does not count: a new process would wait for
# the same one.
STUCK_S: Final = 180.0


@dataclass(frozen=True)
class Held:
    """A partition that is ours now."""

    ready: bool  # its takeover is complete
    waiting: int  # records that wait for the engine
    at_work: int  # records in work and not yet committed
    behind: int  # records that no checkpoint includes
    lag: int | None  # None: the broker is away, has not sent the log's end yet, or the end is before what is answered
    fetch_age_s: float | None  # since its last answered fetch: the age of `lag`; None: the consumer does not have it
    entities: int
    in_quarantine: int
    stored: int  # entities whose states are in Redis
    unread: int = 0  # entities that were treated as new, as their stored states cannot be read
    undecided: bool = False  # it waits for a version of the atlas
    atlas: str | None = None  # the version that answered last; empty: none; None: no atlases are asked

    @property
    def in_flight(self) -> int:
        return self.waiting + self.at_work


@dataclass(frozen=True)
class Reading:
    """All that is reported of a worker. `accounts` and `counts` have the partitions that it ever had, by number; `held`
    has those that it has now."""

    worker: tuple[str, str, str]  # the program's version, the weights' name and version
    assigned: bool  # the group has assigned partitions, or has assigned none
    draining: bool
    store_away: bool
    networks: Sequence[tuple[str, str]]  # name and version of the weights in memory
    refused: Mapping[str, str]  # versions that are due and cannot be loaded, and why
    announcements_refused: int  # records of the models topic
    silence: Silence  # how long Kafka has not answered
    batch_s: float  # how long a batch has been in the engine
    accounts: Mapping[int, Account]
    counts: Mapping[int, Counts]
    held: Mapping[int, Held]
    checkpoints_failed: int
    batches_failed: int
    fenced: int
    rejects: Mapping[str, int]  # by code
    fields_dropped: Mapping[str, int]  # by name
    times: Mapping[str, Spread]  # by the field of the accounts

    @property
    def unaccounted(self) -> dict[int, int]:
        """By partition, the records in, less those settled and in flight; 0 if all is well."""
        return {
            number: account.count_unaccounted(self.held[number].in_flight if number in self.held else 0)
            for number, account in self.accounts.items()
        }


def unready(reading: Reading) -> list[str]:
    """Returns why the worker does not do its work now; empty if it does."""
    reasons = []
    if not reading.assigned:
        reasons.append("the group has not given out its partitions yet")
    if reading.draining:
        reasons.append("draining: partitions are about to go")
    if shut := [str(number) for number, held in reading.held.items() if not held.ready]:
        reasons.append(f"taking over: partitions {', '.join(shut)}")
    if waiting := [str(number) for number, held in reading.held.items() if held.undecided]:
        reasons.append(f"waiting for a version of the atlas: partitions {', '.join(waiting)}")
    if reading.store_away:
        behind = max((held.behind for held in reading.held.values()), default=0)
        reasons.append(f"Redis is away: checkpoints are {behind} records behind")
    if reading.silence.away:
        reasons.append(kafka_away(reading.silence))
    return reasons


def kafka_away(silence: Silence) -> str:
    """Returns a sentence for people about a silence for which Kafka counts as away."""
    numbers = ", ".join(str(number) for _, number in sorted(silence.away_partitions))
    who = f"the leaders of partitions {numbers} have not" if numbers else "no broker has"
    return f"Kafka is away: {who} answered for {silence.longest_s:.0f} s"


def unwell(reading: Reading) -> list[str]:
    """Returns why a new process would do better; empty if it would not."""
    if reading.batch_s > STUCK_S and not reading.store_away:
        return [f"stuck: a batch is at the engine for {reading.batch_s:.0f} s"]
    return []
