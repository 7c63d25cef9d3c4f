"""Forecasts and gap fills of made-up fleets, as a partition of both topics, and what the latest topic then holds. Tests
import this; it tests nothing itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from scores_rig import Fix, Fleet, fixes

from stream.kafka.log import History, Log, Seen, start_of
from stream.kafka.records.record_columns import Records
from stream.services.latest.entities import Entity
from stream.services.latest.taking_over import rebuilt, take
from stream.services.latest.unit import LatestRules, LatestUnit
from stream.services.plan import Taken, dump_metadata, parts_of
from stream.wire import Anchor, Forecast, GapFill, GapPoint, ModelRef, Outgoing, Record, Topics, dumps, loads_forecast
from stream.wire.ids import gap_id

TOPICS: Final = Topics.of("t")
NUMBER: Final = 3
LAG_MS: Final = 40  # from a ping's time to the publication of its forecast


def record(topic: str, offset: int, raw: bytes | None, *, published_ms: int | None = None, key: str = "") -> Record:
    """A record of our partition; without `published_ms` a forecast's is shortly after its ping."""
    if published_ms is None:
        published_ms = -1 if raw is None or topic != TOPICS.forecasts else loads_forecast(raw).anchor.ts + LAG_MS
    return Record(topic, NUMBER, offset, published_ms, key.encode(), raw)


def forecast(entity_id: str, ts: int, offset: int, *, seed: int = 1, **changes: object) -> bytes:
    """One forecast, of a ping that is at this offset of the pings."""
    fleet = Fleet(random.Random(seed))
    fleet.answer(Fix(entity_id, ts, 30.25, -97.75), offset)
    found = msgspec.structs.replace(loads_forecast(fleet.records[-1]), status="ok")
    return dumps(msgspec.structs.replace(found, **changes))


def gap(entity_id: str, start: int, end: int, *, revision: int = 0, status: str = "provisional") -> bytes:
    """One gap fill with three points, or none if it is retracted."""
    step = (end - start) // 4
    points = [GapPoint(start + n * step, 30.0 + n / 1000, -97.0, (1.0, 0.0, 1.0)) for n in (1, 2, 3)]
    return dumps(
        GapFill(
            gap_id=gap_id(entity_id, start),
            entity_id=entity_id,
            revision=revision,
            status=status,  # type: ignore[arg-type]
            start=Anchor(start, 30.0, -97.0),
            end=Anchor(end, 30.004, -97.0),
            reason="silence",
            method="test",
            points=() if status == "retracted" else tuple(points),
            length_m=1.0,
            max_sigma_m=1.0,
            model=ModelRef("made-up", "m1"),
            issued_ts=end,
        )
    )


def logs(seed: int, entities: int = 12, minutes: float = 240) -> list[Record]:
    """Both topics of a partition in the order in which a member gets them: late pings, silences with their fills, which
    become final or are retracted, and copies as a worker leaves them that was killed before its commit."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    fleet, newest = Fleet(rng), dict[str, int]()
    made: list[tuple[str, bytes]] = []
    for offset, fix in enumerate(fixes(rng, entities, minutes)):
        fleet.answer(fix, offset)
        one = loads_forecast(fleet.records[-1])
        last = newest.get(fix.entity_id)
        late = last is not None and fix.ts < last
        made.append((TOPICS.forecasts, dumps(msgspec.structs.replace(one, status="stale" if late else one.status))))
        if last is not None and 60_000 < fix.ts - last < 3_600_000:
            made.append((TOPICS.gapfills, gap(fix.entity_id, last, fix.ts)))
            if rng.random() < 0.7:
                status = rng.choice(["final", "final", "retracted"])
                made.append((TOPICS.gapfills, gap(fix.entity_id, last, fix.ts, revision=1, status=status)))
        newest[fix.entity_id] = max(last or 0, fix.ts)
        if rng.random() < 0.05:
            made += made[-rng.randint(1, 20) :]
    offsets = dict.fromkeys((TOPICS.forecasts, TOPICS.gapfills), 0)
    found = []
    for topic, raw in made:
        found.append(record(topic, offsets[topic], raw))
        offsets[topic] += 1
    return found


class Latest:
    """A latest topic, as its compaction leaves it, and members that work on it one after the other."""

    def __init__(self, rules: LatestRules = LatestRules()) -> None:  # noqa: B008  # it is frozen
        self.values: dict[str, bytes] = {}
        self.committed: dict[str, tuple[int, str]] = {}
        self.records: list[Outgoing] = []
        self.ends = dict.fromkeys((TOPICS.forecasts, TOPICS.gapfills), 1 << 40)
        self.history = History()  # of the records that come
        self.logs: dict[str, Log] = {}  # what brokers say of a topic, if it is more than its end
        self.folded = dict.fromkeys(self.ends, 0)
        self._rules = rules
        self.unit = self.restarted()

    def restarted(self) -> LatestUnit:
        """A member takes over that knows the topic and the commit alone."""
        starts = {}
        for topic, end in self.ends.items():
            at, text = self.committed.get(topic, (None, ""))
            starts[topic] = start_of(at, parts_of(text)[1], self.logs.get(topic, Log(0, end)))
        metadata = parts_of(self.committed[TOPICS.forecasts][1])[0] if TOPICS.forecasts in self.committed else None
        held: dict[str, Entity] = {}
        for key, value in self.values.items():
            take(Record(TOPICS.latest, NUMBER, 0, 0, key.encode(), value), held)
        taken = Taken(NUMBER, starts, metadata)
        self.folded = {topic: one.offset for topic, one in starts.items()}
        self.unit = rebuilt(TOPICS, self._rules, taken, held)
        return self.unit

    def fold(self, records: Iterable[Record]) -> None:
        for one in records:
            if one.offset >= self.folded[one.topic]:
                self.unit.fold(Records.of([one]))
                self.folded[one.topic] = one.offset + 1

    def flush(self, quiet_ms: int | None = None) -> list[Outgoing]:
        """A transaction: values and offsets."""
        made = self.unit.take_outgoing(quiet_ms)
        for one in made:
            key = (one.key or b"").decode()
            if one.value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = one.value
        needed = self.unit.needed
        marks = {topic: min(at, needed.get(topic, at)) for topic, at in self.folded.items()}
        metadata = {TOPICS.forecasts: self.unit.metadata()}
        seen = {topic: Seen(at, self.history) for topic, at in self.folded.items()}
        self.committed = {
            topic: (at, dump_metadata(metadata.get(topic, ""), seen[topic])) for topic, at in marks.items()
        }
        self.records += made
        return made

    def take(self, records: Iterable[Record]) -> list[Outgoing]:
        """These records and a transaction."""
        self.fold(records)
        return self.flush()


def newest(values: Mapping[str, bytes]) -> dict[str, Forecast]:
    return {key: loads_forecast(value) for key, value in values.items()}


def undisturbed(records: Sequence[Record], rules: LatestRules) -> dict[str, bytes]:
    """The values that a member leaves that nothing ever happens to, and that publishes once, at the end."""
    latest = Latest(rules)
    latest.take(records)
    return latest.values
