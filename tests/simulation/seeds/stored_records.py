"""What the store has, after each write to it, must be what the log says.

A partition's checkpoint at offset c says: whatever came below c is in the stored records. So for each entity with a
record of its own in the log below c, the stored record includes it, and its track is the one that the log gives up to
where the record goes, folded here by `stream.tracks.track.observe`, one ping after the other. Nothing has to crash for
that to be seen: the next owner of a partition that was written wrongly would answer from it.

It is looked at after each write, as a later one may hide what was wrong, and the verdict at the end sees only the last.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from faulty import POISON_MPS
from kafka_log import READ_COMMITTED, LogRecord
from networks import make_predictor
from plans import CUTS

from stream.engine.entities import quarantine, stored_entity
from stream.kafka.log import Partition
from stream.store.redis_store import KEY_ENTITY, KEY_META, KEY_PARTITION
from stream.tracks.clean import parse
from stream.tracks.fix import pack
from stream.tracks.track import Policy, Track, observe
from stream.wire import Ping, Record
from stream.wire.record import parse_forget

if TYPE_CHECKING:
    from stage import Stage

LOSSES: Final = CUTS | {"retain"}  # by which the log itself lacks what workers have folded, or did not get
FIELDS: Final = ("window", "accepted", "late", "duplicates", "rejected", "suspects", "pending")


class Entry(NamedTuple):
    """What the log says of an entity once all below `next_offset` is folded."""

    next_offset: int
    track: Track | None  # None: it is forgotten
    is_known: bool  # False: its step has raised, and it may be in quarantine


class Told:
    """What the log of one partition tells of its entities, as far as it was read here."""

    def __init__(self, partition: Partition, policy: Policy) -> None:
        self._partition = partition
        self._policy = policy
        self._read = 0
        self.entities: dict[str, list[Entry]] = {}

    def read_on(self, log: Any) -> None:
        """Reads what the log has got since."""
        while True:
            found = log.read(max(self._read, log.start), READ_COMMITTED, 1_000)
            for record in found.records:
                self._fold(record)
            if found.next_offset == self._read:
                return
            self._read = found.next_offset

    def _fold(self, one: LogRecord) -> None:
        headers = tuple((name, value or b"") for name, value in one.headers)
        record = Record(*self._partition, one.offset, one.timestamp_ms, one.key, one.value, headers)
        if (forgotten := parse_forget(record)) is not None:
            self.entities.setdefault(forgotten, []).append(Entry(one.offset + 1, None, True))
            return
        ping = parse(record)
        if not isinstance(ping, Ping):
            return
        entries = self.entities.setdefault(ping.entity_id, [])
        before = entries[-1] if entries else Entry(0, None, True)
        track, _ = observe(before.track, pack(ping), one.offset, self._policy, one.timestamp_ms)
        is_known = before.is_known and ping.speed_mps != POISON_MPS
        entries.append(Entry(one.offset + 1, track, is_known))


class StoredRecords:
    """Compares what the store has with the log of each partition."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        pings = stage.settings.topics.pings
        self._partitions: list[Partition] = [(pings, number) for number in range(stage.plan.partitions)]
        policy = Policy(window_fixes=make_predictor().history)
        self._told = {partition: Told(partition, policy) for partition in self._partitions}
        self._seen: dict[Partition, tuple[Any, ...]] = {}  # the meta hash that was there at the last look
        # By partition and entity, what was found right: the record, and what the log said of the entity then.
        self._right: dict[tuple[Partition, str], tuple[bytes | None, int, int]] = {}
        self._may_lack = "redis_evicts" in stage.plan.kinds
        self._is_on = not stage.plan.kinds & LOSSES

    def look(self) -> list[str]:
        """Returns what is wrong in the partitions that were written since the last look."""
        found: list[str] = []
        if not self._is_on:
            return found
        values = self._stage.redis.server.data.values
        for partition in self._partitions:
            prefix = KEY_PARTITION.format(group=self._stage.settings.group, topic=partition[0], number=partition[1])
            meta: Any = values.get((prefix + KEY_META).encode())
            if meta is None:
                continue
            state = tuple(meta.items())
            if self._seen.get(partition) != state:
                self._seen[partition] = state
                told = self._told[partition]
                told.read_on(self._stage.kafka.protocol.log(partition))
                found += self._compare(
                    partition, told, (prefix + KEY_ENTITY).encode(), int(meta.get(b"next_offset", 0))
                )
        return found

    def _compare(self, partition: Partition, told: Told, prefix: bytes, checkpoint: int) -> list[str]:
        values, found = self._stage.redis.server.data.values, []
        for entity, entries in told.entities.items():
            if (partition[1], entity) in self._stage.begun_anew:
                continue  # by promise its track lacks what was before
            below = bisect_left(entries, checkpoint + 1, key=lambda entry: entry.next_offset)
            due = entries[below - 1] if below else None
            raw: Any = values.get(prefix + entity.encode())
            asked = raw, below, len(entries)
            if self._right.get((partition, entity)) == asked:
                continue
            reason = self._judge(entity, entries, due, raw)
            if reason is None:
                self._right[partition, entity] = asked
            else:
                found.append(f"stored: {entity} of partition {partition[1]}, checkpoint {checkpoint}: {reason}")
        return found

    def _judge(self, entity: str, entries: list[Entry], due: Entry | None, raw: bytes | None) -> str | None:
        """Returns what is wrong with a stored record. `due` is the least that it must include; None: nothing."""
        if due is not None and not due.is_known:
            return None
        later = entries[entries.index(due) + 1 :] if due is not None and due.track is not None else []
        if any(entry.track is None for entry in later):
            return None  # it is forgotten later, and so it may be behind, or gone: a replay forgets it once more
        if raw is None:
            if due is None or due.track is None or self._may_lack:
                return None
            return f"no record, and its pings up to {due.next_offset - 1} are in it"
        if quarantine.is_one(raw):
            return None if any(not entry.is_known for entry in entries) else "it is in quarantine without a reason"
        try:
            track = stored_entity.loads(entity, raw).track
        except stored_entity.RecordError as error:
            return str(error)
        if due is not None and track.next_offset < due.next_offset:
            what = "it was forgotten" if due.track is None else "it has a ping"
            return f"its record goes to {track.next_offset}, and {what} at {due.next_offset - 1}"
        at = bisect_left(entries, track.next_offset, key=lambda entry: entry.next_offset)
        if at == len(entries) or entries[at].next_offset != track.next_offset or entries[at].track is None:
            return f"its record says that it includes {track.next_offset - 1}, which is no ping of it"
        if not entries[at].is_known:
            return None
        for name in FIELDS:
            if getattr(track, name) != getattr(entries[at].track, name):
                return f"its track up to {track.next_offset} is not that of the log: {name}"
        return None
