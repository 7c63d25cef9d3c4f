"""Stores digests and places of the published answers, by the input record that each answer names.

Millions of forecasts fit into memory: one needs 25 bytes, in columns indexed by the offset of its input record.

    column   bytes  content
    digest       8  of all that must be equal (`compare`)
    place        8  partition << 48 | offset of its first copy in the output topic, to read it back in case of doubt
    times        4  copies with that digest
    caches       1  the values of their `cache` fields, as bits
    named        4  which atlas they name, as an index of `Book.named`

Copies with another digest, dead letters and gap fills are few, and are in dictionaries. Dead letters about a failed
step or an exceeded quota are separate: no replay can decide whether they are due. So are answers which state that the
entity's stored state could not be read: no replay makes their numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from math import inf
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.engine.entities.quarantine import FAULTS
from stream.engine.entities.quota import ENTITY_QUOTA_EXCEEDED
from stream.verify.compare import digest_anchor, digest_forecast, digest_gapfill, digest_letter
from stream.verify.report import Example, Report
from stream.verify.versions import ForecastVersions
from stream.wire import JSON_PINGS, UNREAD_TRACK, Forecast, Record, Topics, context_of, loads_forecast, loads_gapfill

HIT: Final = 1
REBUILT: Final = 2
NONE: Final = 4
OTHER_MODEL: Final = 8
CACHES: Final = {"hit": HIT, "rebuilt": REBUILT, "none": NONE}
_OFFSET_BITS: Final = 48
ITS_WORD: Final = FAULTS | {ENTITY_QUOTA_EXCEEDED}  # codes that no replay can check: the worker's answer is accepted

FillKey = tuple[str, int, str]  # gap_id, revision, status


class Span(NamedTuple):
    """Offsets of one partition of the input: replayed from `begin`, judged from `start`, answers due below
    `committed`."""

    begin: int
    start: int
    committed: int
    end: int
    cut: int | None = None  # answers to this offset or a later one may belong to records that are gone


class Copy(NamedTuple):
    """Equal copies of one answer: the place of the first, their number, the bits of their `cache` fields, and which
    versions a forecast names."""

    digest: int
    place: tuple[int, int]  # partition and offset in the output topic
    times: int = 1
    caches: int = 0
    named: int = 0  # an index of `Book.named`


class Column:
    """The forecasts of one partition, by the offset of their input record."""

    def __init__(self, span: Span) -> None:
        self._begin = span.begin
        size = span.end - span.begin
        self._digest = array("Q", bytes(8 * size))
        self._place = array("q", bytes(8 * size))
        self._times = array("I", bytes(4 * size))
        self._caches = array("B", bytes(size))
        self._named = array("I", bytes(4 * size))
        self._others: dict[int, list[Copy]] = {}

    def add(self, offset: int, copy: Copy) -> None:
        at = offset - self._begin
        if not self._times[at]:
            self._digest[at] = copy.digest
            self._place[at] = copy.place[0] << _OFFSET_BITS | copy.place[1]
            self._named[at] = copy.named
        elif self._digest[at] != copy.digest:
            _merge(self._others.setdefault(offset, []), copy)
            return
        self._times[at] += copy.times
        self._caches[at] |= copy.caches

    def take(self, offset: int) -> list[Copy]:
        """Returns the copies for this record, and removes them."""
        at = offset - self._begin
        if not self._times[at]:
            return []
        place = self._place[at] >> _OFFSET_BITS, self._place[at] & ((1 << _OFFSET_BITS) - 1)
        first = Copy(self._digest[at], place, self._times[at], self._caches[at], self._named[at])
        self._times[at] = 0
        return [first, *self._others.pop(offset, ())]

    def first_named(self) -> NDArray[np.uint32]:
        """Returns what each record's first copy names, also after it was taken; 0 where there is none."""
        return np.frombuffer(self._named, np.uint32)

    def has(self, offset: int) -> bool:
        return bool(self._times[offset - self._begin])

    def leftovers(self) -> Iterator[int]:
        """Yields the offsets whose forecasts were not taken."""
        yield from (np.flatnonzero(np.frombuffer(self._times, np.uint32)) + self._begin).tolist()


class Book:
    """All published answers to one partition of the input."""

    def __init__(self, span: Span, named: Sequence[ForecastVersions]) -> None:
        self.span = span
        self.named = named  # what forecasts name; the first is nothing
        self.forecasts = Column(span)
        self.letters: dict[int, list[Copy]] = {}
        self.faults: dict[int, dict[str, list[Copy]]] = {}  # dead letters of ITS_WORD, by offset and code
        self.unread: dict[int, list[Copy]] = {}  # forecasts without the entity's stored state
        self.unread_letters: dict[int, dict[str, list[Copy]]] = {}  # such dead letters, by offset and code
        self.fills: dict[FillKey, list[Copy]] = {}
        self.fill_facts: dict[FillKey, tuple[str, int]] = {}  # entity and issued_ts
        self.beyond = False  # an answer belongs to a record after the log's end, so others may belong to gone ones, too

    @property
    def cut(self) -> float:
        """The offset from which on answers may belong to records that are gone; infinity if there is none."""
        if self.span.cut is not None:
            return self.span.cut
        return 0 if self.beyond else inf

    @property
    def is_cut(self) -> bool:
        return self.cut < inf

    def has_answer(self, offset: int) -> bool:
        """Returns whether this record has a forecast or a dead letter."""
        return self.forecasts.has(offset) or offset in self.letters or offset in self.faults


class Published:
    """The books of all partitions, filled record by record. An answer to something that does not exist is reported at
    once."""

    def __init__(self, topics: Topics, spans: Mapping[int, Span], models: Set[str], report: Report) -> None:
        """Takes `models`, the weights that the replay can ask."""
        self.named = [ForecastVersions()]  # what forecasts of all partitions name
        self._index = {ForecastVersions(): 0}
        self.books = {number: Book(span, self.named) for number, span in spans.items()}
        self._topics = topics
        self._models = models
        self._report = report

    def add(self, record: Record) -> None:
        """Adds one record of an output topic."""
        try:
            if record.topic == self._topics.forecasts:
                self._forecast(record, loads_forecast(record.value or b""))
            elif record.topic == self._topics.gapfills:
                self._fill(record)
            else:
                self._letter(record)
        except (msgspec.MsgspecError, ValueError) as error:  # the bytes are no answer, or the headers name no record
            self._stray(record, None, f"cannot be read: {error}")

    def _forecast(self, record: Record, forecast: Forecast) -> None:
        src = forecast.src
        book = self._book(record, src.topic, src.partition, src.offset, forecast.entity_id)
        if book is not None and forecast.cache == "unread":
            digest = digest_anchor(record.key, forecast.entity_id, forecast.anchor)
            copy = Copy(digest, (record.partition, record.offset), named=self._name(ForecastVersions.of(forecast)))
            _merge(book.unread.setdefault(src.offset, []), copy)
        elif book is not None:
            caches = CACHES[forecast.cache] | (0 if forecast.model.version in self._models else OTHER_MODEL)
            named, place = self._name(ForecastVersions.of(forecast)), (record.partition, record.offset)
            copy = Copy(digest_forecast(record.key, forecast), place, 1, caches, named)
            book.forecasts.add(src.offset, copy)

    def _name(self, named: ForecastVersions) -> int:
        if named not in self._index:
            self._index[named] = len(self.named)
            self.named.append(named)
        return self._index[named]

    def _fill(self, record: Record) -> None:
        fill = loads_gapfill(record.value or b"")
        source = dict(record.headers).get("ce_source", b"").decode()
        topic, _, number = source.removeprefix("/").rpartition("/")
        # A gap fill names its partition but no offset: it is matched by its gap id (`FillKey`).
        book = self._book(record, topic, int(number), None, fill.entity_id)
        if book is not None:
            key = fill.gap_id, fill.revision, fill.status
            book.fill_facts[key] = fill.entity_id, fill.issued_ts
            copy = Copy(digest_gapfill(record.key, fill), (record.partition, record.offset))
            _merge(book.fills.setdefault(key, []), copy)

    def _letter(self, record: Record) -> None:
        context = context_of(record.headers)
        if context.get("adapter", JSON_PINGS) != JSON_PINGS:
            return  # of `pathcast ingest`, which read it before it could be a record
        if missing := {"topic", "partition", "offset"} - context.keys():
            raise ValueError(f"no header says the {' and '.join(sorted(missing))} of the record")
        offset = int(context["offset"])
        book = self._book(record, context["topic"], int(context["partition"]), offset, None)
        if book is not None:
            copy = Copy(digest_letter(record), (record.partition, record.offset))
            code = context.get("code", "")
            if code in ITS_WORD:
                letters = book.faults.setdefault(offset, {}).setdefault(code, [])
            elif context.get("track") == UNREAD_TRACK:
                letters = book.unread_letters.setdefault(offset, {}).setdefault(code, [])
            else:
                letters = book.letters.setdefault(offset, [])
            _merge(letters, copy)

    def _book(self, record: Record, topic: str, number: int, offset: int | None, entity: str | None) -> Book | None:
        """Returns the book for an answer to this input record; None if the answer is not judged there."""
        book = self.books.get(number) if topic == self._topics.pings else None
        if book is None:
            self._stray(record, entity, f"answers {topic}/{number}, which is no partition of {self._topics.pings}")
            return None
        if offset is not None and offset >= book.span.end:  # the input's end was looked up after the outputs' ends
            book.beyond = True
            reason = (
                f"{record.topic}/{record.partition}@{record.offset} answers it, and the log ends at {book.span.end}"
            )
            self._report.blame(Example("orphaned", topic, number, offset, entity, reason))
            return None
        return book if offset is None or offset >= book.span.begin else None

    def _stray(self, record: Record, entity: str | None, reason: str) -> None:
        place = f"(in partition {record.partition}) {reason}"
        self._report.blame(Example("unexpected", record.topic, -1, record.offset, entity, place))


def _merge(copies: list[Copy], copy: Copy) -> None:
    """Adds the copy to the equal ones, in place."""
    for at, other in enumerate(copies):
        if (other.digest, other.named) == (copy.digest, copy.named):
            copies[at] = other._replace(times=other.times + copy.times, caches=other.caches | copy.caches)
            return
    copies.append(copy)
