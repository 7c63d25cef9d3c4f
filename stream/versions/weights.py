"""Says which weights answer which ping: a function of the models topic and of the entity's id. Pure.

Of the announcements that apply to a ping, the one with the highest number answers it. Which apply:

    all      from `from` on, but an entity whose place among all is p (0 to 1) follows only after p of the `ramp`: so
             states are rebuilt one after the other, and not all at once
    canary   for `parts` in 10,000 of the entities, other ones each time, from `from` to before `until`

Without any, a worker's own weights answer. How a worker can know this although the topic goes on says
`stream.versions.ledger`: an announcement, and the end of a canary, are brought in by the same two records as an atlas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from stream.wire import ALL, WEIGHTS_KEY, WeightsRecord, loads_weights

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
SERIAL_DIGITS: Final = 10  # of a key: int() raises for a number of thousands of digits
NEVER: Final = np.iinfo(np.int64).max
OWN: Final = -1  # a worker's own weights
_PLACES: Final = 1 << 32  # an entity's place is a whole number below this
_ODD: Final = 0x9E3779B1  # 2**32 over the golden ratio: a multiplication by it moves every place to another


class AnnouncedRule(NamedTuple):
    """What one announcement says of one partition."""

    serial: int
    version: str
    first: int
    whole_from: int  # from here on every entity has followed; NEVER for a canary
    until: int
    parts: int  # of 10,000 entities, for a canary

    def holds(self, offsets: I64, places: U32) -> NDArray[np.bool_]:
        """Returns to which of these pings it applies."""
        if self.whole_from != NEVER:
            wide = places.astype(np.uint64)
            return offsets >= self.first + ((wide * np.uint64(self.whole_from - self.first)) >> np.uint64(32)).astype(
                np.int64
            )
        mixed = (places.astype(np.uint64) * np.uint64(_ODD) + np.uint64(self.serial * _ODD)) % np.uint64(_PLACES)
        return (offsets >= self.first) & (offsets < self.until) & (mixed * np.uint64(ALL) < self.parts * _PLACES)


class PartitionRules(NamedTuple):
    """What all announcements say of one partition, the first first."""

    rules: tuple[AnnouncedRule, ...]

    def at(self, offsets: I64, places: U32) -> I64:
        """Returns for each ping the index of the rule that answers it, or OWN."""
        found = np.full(len(offsets), OWN)
        for index, rule in enumerate(self.rules):
            found[rule.holds(offsets, places)] = index
        return found

    def among(self, first: int, last: int) -> list[int]:
        """Returns the indices of the rules that may answer a ping from offset `first` to `last`, and OWN if none
        may."""
        found: list[int] = []
        for index in range(len(self.rules) - 1, -1, -1):
            rule = self.rules[index]
            if rule.first <= last and rule.until > first:
                found.append(index)
            if rule.whole_from <= first:
                return found[::-1]
        return [OWN, *found[::-1]]

    def without(self, versions: set[str]) -> PartitionRules:
        return PartitionRules(tuple(rule for rule in self.rules if rule.version not in versions))


class WeightsLedger:
    """Holds what the models topic says of one pings topic's weights, up to some record."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._records: dict[int, WeightsRecord] = {}
        self._rules: dict[int, PartitionRules] = {}
        self._all: Sequence[WeightsRecord] | None = None

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """Takes the next record of the topic. Only the last record of each announcement counts, as for an atlas."""
        serial, record = self.parse_record(key, value)
        if serial is None:
            return
        self._records.pop(serial, None)
        if record is not None:
            self._records[serial] = record
        self._rules.clear()
        self._all = None

    def parse_record(self, key: bytes | None, value: bytes | None) -> tuple[int | None, WeightsRecord | None]:
        """Returns of which announcement a record of the topic is, None if of none, and what it says from then on."""
        name = (key or b"").decode(errors="replace")
        number = name.removeprefix(WEIGHTS_KEY)
        if number == name or not (number.isascii() and number.isdigit() and len(number) <= SERIAL_DIGITS):
            return None, None
        try:
            record = None if value is None else loads_weights(value)
        except ValueError:
            record = None
        if record is not None and (record.topic != self._topic or record.key.decode() != name):
            record = None
        return int(number), record

    @property
    def records(self) -> Sequence[WeightsRecord]:
        """All announcements, by their number. It is the same object until a record comes."""
        if self._all is None:
            self._all = [self._records[serial] for serial in sorted(self._records)]
        return self._all

    @property
    def announced(self) -> list[WeightsRecord]:
        """Those of which is not known yet whether they will serve, or when they will end."""
        return [record for record in self.records if record.state == "announced"]

    @property
    def next_serial(self) -> int:
        return max(self._records, default=0) + 1

    def rules(self, number: int) -> PartitionRules:
        """Returns what serves in the partition of this number."""
        if number not in self._rules:
            found = (_rule(record, number) for record in self.records)
            self._rules[number] = PartitionRules(tuple(rule for rule in found if rule is not None))
        return self._rules[number]

    def first_undecided(self, number: int) -> int | None:
        """Returns the first offset whose weights are not known yet; None if there is none."""
        return min(
            (at for record in self.announced if (at := first_open_offset(record, number)) is not None), default=None
        )

    def list_superseded(self, begins: Mapping[int, int]) -> list[WeightsRecord]:
        """Returns the announcements that answer no ping at or after `begins`, which names every partition."""
        needed = {
            self.rules(at).rules[i].serial
            for at, begin in begins.items()
            for i in self.rules(at).among(begin, NEVER - 1)
            if i != OWN
        }
        return [one for one in self.records if one.state == "serving" and one.serial not in needed]


def first_open_offset(record: WeightsRecord, number: int) -> int | None:
    """Returns from where on an announced record leaves open what serves; None if nowhere in this partition."""
    open_ = record.first if record.until is None else record.until
    return open_.get(number)


def _rule(record: WeightsRecord, number: int) -> AnnouncedRule | None:
    """Returns what a record says of a partition for certain; None if nothing."""
    first = record.first.get(number)
    if first is None or (record.state == "announced" and record.until is None):
        return None
    if first == NEVER:  # no log reaches it, and no ramp can follow it
        return None
    until = NEVER
    if record.until is not None and record.state == "serving":
        until = record.until.get(number, NEVER)
    whole = min(first + record.ramp.get(number, 0), NEVER - 1) if record.role == "all" else NEVER
    return AnnouncedRule(record.serial, record.version, first, whole, until, record.parts)


def end_canary(record: WeightsRecord, until: Mapping[int, int]) -> WeightsRecord:
    """Returns a canary as it is announced to end before these offsets."""
    return replace(record, state="announced", until=dict(until))
