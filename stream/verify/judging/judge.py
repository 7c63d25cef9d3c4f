"""Compares one partition's published answers with those of a replay, and counts verdicts. It uses no broker, no store
and no model.

    replayed answer      published copies                        verdict
    due                  none, committed                         lost
    due                  none, not committed                     open: it may still come
    due                  some, all equal                         fine; several: again, or duplicated (exactly_once)
    due                  one that is not equal                   doubt: read it back and compare it field by field
    none                 some                                    unexpected

A doubt ends as close (within the tolerance for a rebuilt state), other_model, other_atlas, or different. If the log was
truncated, there is one more verdict: orphaned, an answer to the record that was at this offset before. It is not a copy
of the answer that is due now, so a record at such an offset is judged only when all its answers were read back. An
answer that states that its entity's stored state could not be read is counted as unread (`unread`). A forecast that
asked another version of the atlas than it had to is a wrong_atlas, whatever its numbers are (`versions`), and one of
other weights wrong_weights (`weights`). So is a gap fill; the replay fills with the version that the ping's forecast
names, and the numbers of a fill that names another one are not compared.

A replay cannot decide whether a step fails, because the program may have changed since. So a `step_failed` is accepted,
and an `entity_quarantined` is right after a `step_failed` of its entity. From there on, each record of the entity must
have an outcome, except one that may be a duplicate; its answers are judged again once we know that the replay and the
workers build on the same pings (`trusted_state`).

Whether a new entity exceeds the quota depends on what has expired in the store, so an `entity_quota_exceeded` is
accepted, too. But it is wrong for an entity that had a forecast before, within the TTL of a state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final, NamedTuple

from stream.engine.entities.quarantine import FAULTS, STEP_FAILED, fault
from stream.engine.entities.quota import ENTITY_QUOTA_EXCEEDED
from stream.tracks.clean import Foreign, parse
from stream.verify.compare import Tolerance, as_published, digest_gapfill, digest_letter
from stream.verify.judging.doubts import Doubts, Place, doubt_of, doubts_of
from stream.verify.judging.leftovers import leftovers
from stream.verify.judging.trusted_state import TrustedState
from stream.verify.judging.unread import Unread
from stream.verify.published import CACHES, HIT, NONE, OTHER_MODEL, REBUILT, Book, Copy, Span
from stream.verify.report import Example, Report, Verdict
from stream.verify.versions import Announced, ForecastAtlas
from stream.verify.weights import AnnouncedWeights
from stream.wire import GapFill, Outgoing, Ping, Record, Topics, code_of, dead_letter, loads_forecast, loads_gapfill
from stream.wire.record import parse_forget

LEGAL_CACHES: Final = {"hit": HIT | REBUILT, "rebuilt": REBUILT, "none": NONE}


class JudgingRules(NamedTuple):
    """The rules by which answers are judged."""

    topics: Topics
    tolerance: Tolerance
    history: int  # pings in a full window
    once: bool = False  # exactly_once: a second copy is an error
    to_the_bit: bool = True  # numbers must be equal where no state was rebuilt
    ttl_ms: float = float("inf")  # of a stored state after its entity's last ping
    versions: Set[str] = frozenset()  # of the atlas, which a replay can ask
    announced: Announced | None = None  # the versions of the atlas; None: which one is asked is not judged
    models: Set[str] = frozenset()  # the weights that a replay can ask
    weights: AnnouncedWeights | None = None  # as `announced`
    foreign: Foreign | None = None  # what reads records that are no pings of ours


class Judge:
    """Judges the input of one partition, record by record, by the answers that the replay gave."""

    def __init__(self, number: int, book: Book, rules: JudgingRules, report: Report) -> None:
        self.known = TrustedState(complete=book.span.begin == 0, history=rules.history)
        announced = rules.announced

        def wrong_atlas(offset: int, named: ForecastAtlas) -> str | None:
            return None if announced is None else announced.wrong(number, offset, named)

        asked = rules.versions, rules.models, wrong_atlas
        self.doubts = Doubts(book, rules.topics, report.tally(number), self._blame, self._count, *asked)
        self._faulty: set[str] = set()  # entities that have a step_failed
        self._forecast_ms: dict[str, int] = {}  # by entity, the timestamp of the record of its last forecast
        self._unread = Unread(number, book, rules.topics, report, once=rules.once)
        self._provisional: dict[str, tuple[int, int]] = {}  # by gap id, the place of the first copy of revision 0
        self._partition = number
        self._book = book
        self._rules = rules
        self._report = report
        self._tally = report.tally(number)

    @property
    def span(self) -> Span:
        return self._book.span

    def step_failed(self, record: Record) -> bool:
        """Returns whether a dead letter states that the step of this record failed, or an earlier one of its entity, or
        that the entity exceeded the quota. Where the log was cut, a letter may be of another record, which is gone."""
        letters = self._book.faults.get(record.offset, {})
        return any(self._of_record(record, code, copies) for code, copies in letters.items())

    def _of_record(self, record: Record, code: str, copies: Sequence[Copy]) -> list[Copy]:
        """Returns the copies of a failure's letter that are about this record: all of them, unless the log was cut."""
        if record.offset < self._book.cut:
            return list(copies)
        due = digest_letter(as_published(self._due_letter(record, code)))
        return [copy for copy in copies if copy.digest == due]

    def _due_letter(self, record: Record, code: str) -> Outgoing:
        return dead_letter(self._rules.topics.dead_letters, record, fault(code, ""), version="")

    def record(self, record: Record, answers: Sequence[Outgoing]) -> str | None:
        """Judges the next input record, in offset order, to which `answers` are due. Returns its entity if it is a
        ping."""
        topics, known = self._rules.topics, self.known
        due = {answer.topic: answer for answer in answers if answer.topic in (topics.forecasts, topics.dead_letters)}
        forecast, letter = due.get(topics.forecasts), due.get(topics.dead_letters)
        parsed = parse(record, self._rules.foreign)
        ping = parsed if isinstance(parsed, Ping) else None
        entity = None if ping is None else ping.entity_id
        may_repeat = False
        if (forgotten := parse_forget(record)) is not None:
            self._forecast_ms.pop(forgotten, None)
        if ping is not None:
            self._report.entities.add(ping.entity_id, self._partition)
            may_repeat = known.may_repeat(ping.entity_id, ping.ts)
            known.note_time(ping.entity_id, ping.ts)
        judged = record.offset >= self.span.start
        if judged:
            self._tally.records += 1
            self._atlas(record.offset, entity, self._book.unread.get(record.offset, ()))
        else:
            self._tally.warmup += 1
        unread = self._unread.take(record, ping, judged=judged)
        if self.step_failed(record):
            self._failure(record, entity, judged=judged)
            return entity
        owed = forecast
        if letter is not None and entity is not None and code_of(letter.headers) in FAULTS:
            known.fail(entity)  # it failed here, and in no worker
            owed = letter
        answered = self._book.has_answer(record.offset)
        if due and not answered and not unread and ping is not None:
            unread = self._unread.repeats(ping, judged=judged)
        if unread and not answered:
            if forecast is not None and entity is not None:
                known.note(entity, loads_forecast(forecast.value or b""), 0, record.timestamp_ms)
            forecast = letter = owed = None
        if forecast is not None:
            self._forecast(forecast, entity, judged=judged)
        if letter is not None and known.can_be_judged(entity):
            copies = self._book.letters.pop(record.offset, [])
            if judged:
                self._compare(letter, copies, digest_letter(as_published(letter)), None)
        if not known.can_be_judged(entity):
            self._tally.unjudged += judged
            if judged and not answered and owed is not None and known.was_in_quarantine(entity) and not may_repeat:
                self._count(owed, [])
            self._ignore(record.offset)
        elif judged:
            self._tally.input_duplicates += not due and not unread
        for answer in answers:
            if answer.topic == topics.gapfills:
                self._fill(answer, judged=judged and known.can_be_judged(entity), may_lack=unread)
        return entity

    def finish(self) -> None:
        """Reports the answers that are left after the last record: they answer nothing."""
        for example, times in leftovers(self._book, self._rules.topics.pings, self._partition, self.known):
            self._report.blame(example, times)

    def settle(self, found: Mapping[Place, Record]) -> None:
        """Decides the doubts by the records at their places."""
        self.doubts.settle(found)

    def _forecast(self, answer: Outgoing, entity: str | None, *, judged: bool) -> None:
        offset = answer.src.offset
        due, copies = loads_forecast(answer.value or b""), self._book.forecasts.take(offset)
        caches = 0
        for copy in copies:
            caches |= copy.caches
        self.known.note(due.entity_id, due, caches, answer.src.timestamp_ms)
        if copies:
            self._forecast_ms[due.entity_id] = answer.src.timestamp_ms
        if not judged or not self.known.can_be_judged(entity):
            return
        tolerance = self._tolerance(due.entity_id)
        named = self._book.named
        found = (doubt_of(answer, due, copy, named[copy.named], tolerance) for copy in copies)
        doubts = [doubt for doubt in found if doubt is not None]
        if self.doubts.mix(answer, copies, doubts):
            return
        legal_caches = LEGAL_CACHES[due.cache]
        if self._rules.weights is not None and due.cache == "rebuilt":
            legal_caches |= HIT  # what it had been given by other weights was not there any more after a takeover
        legal = [copy for copy in copies if not copy.caches & ~OTHER_MODEL & ~legal_caches]
        for copy in copies:
            if copy not in legal:
                said = " and ".join(name for name, bit in CACHES.items() if copy.caches & bit)
                reason = f"cache is {said}, expected {due.cache} (at {_where(answer.topic, copy)})"
                self._blame("different", offset, due.entity_id, reason, copy.times)
        self._count(answer, copies)
        self.doubts.add(doubt for doubt in doubts if doubt.copy in legal)

    def _atlas(self, offset: int, entity: str | None, copies: Sequence[Copy]) -> None:
        """Judges which versions these copies of a forecast asked."""
        announced, weights, topic = self._rules.announced, self._rules.weights, self._rules.topics.forecasts
        for copy in copies:
            named, model = self._book.named[copy.named]
            if weights is not None and entity is not None:
                self._tally.late_weights += model.late * copy.times
                if (reason := weights.wrong(self._partition, offset, entity, model)) is not None:
                    reason = f"{reason} (at {_where(topic, copy)})"
                    self._blame("wrong_weights", offset, entity, reason, copy.times)
            if announced is None:
                continue
            if named is None:
                self._tally.without_atlas += copy.times
                continue
            self._tally.late_atlas += named.late * copy.times
            if (reason := announced.wrong(self._partition, offset, named)) is not None:
                self._blame("wrong_atlas", offset, entity, f"{reason} (at {_where(topic, copy)})", copy.times)

    def _failure(self, record: Record, entity: str | None, *, judged: bool) -> None:
        """Judges a record for which `failed` is true."""
        offset, all_letters = record.offset, self._book.faults.pop(record.offset)
        letters = {code: found for code, some in all_letters.items() if (found := self._of_record(record, code, some))}
        if entity is not None and STEP_FAILED in letters:
            self._faulty.add(entity)
        for code, copies in letters.items():
            may_be_new = code == ENTITY_QUOTA_EXCEEDED and entity is not None
            if may_be_new and self._is_stored(entity, record):
                self._blame("unexpected", offset, entity, f"{code}, but the entity had a forecast before", len(copies))
            elif may_be_new or entity in self._faulty:
                due = self._due_letter(record, code)
                if judged:
                    self._compare(due, copies, digest_letter(as_published(due)), None)
                    self._tally.quarantined += 1
            elif judged and (self.known.complete or entity is None):
                self._blame("unexpected", offset, entity, f"{code}, but no step of it failed before", len(copies))
            else:
                self._tally.unjudged += judged
        others = [*self._book.forecasts.take(offset), *self._book.letters.pop(offset, [])]
        times = sum(copy.times for copy in others)
        if others and judged and offset >= self._book.cut:
            self._blame("orphaned", offset, entity, "answers to a record that is gone, or to this one again", times)
        elif others and judged and self._rules.once:
            self._blame("duplicated", offset, entity, "a dead letter and another answer", times)
        elif judged:
            self._tally.again += times  # they are from an owner that died before it could commit
        if entity is not None:
            self.known.fail(entity)

    def _is_stored(self, entity: str | None, record: Record) -> bool:
        """Returns whether a forecast of this entity is so recent that its state cannot have expired."""
        before_ms = self._forecast_ms.get(entity or "")
        return before_ms is not None and record.timestamp_ms - before_ms <= self._rules.ttl_ms

    def _fill(self, answer: Outgoing, *, judged: bool, may_lack: bool) -> None:
        """Judges a gap fill. `may_lack`: the ping was answered without its entity's stored state, and so without a gap
        fill."""
        fill = loads_gapfill(answer.value or b"")
        key = fill.gap_id, fill.revision, fill.status
        copies = self._book.fills.pop(key, [])
        if judged and (copies or not may_lack):
            tolerance = self._tolerance(fill.entity_id) or self._rules.tolerance.rounding()
            if self._compare(answer, copies, digest_gapfill(answer.key, fill), tolerance):
                self._order(answer, fill, copies)

    def _order(self, answer: Outgoing, fill: GapFill, copies: Sequence[Copy]) -> None:
        """Checks that a gap fill is before its revision: a reader that keeps the last record of a gap would otherwise
        keep the one that was replaced.

        Only the first copies are checked, because at_least_once may repeat a fill after its revision.
        """
        if not copies:
            return
        number, offset = min(copy.place for copy in copies)
        if not fill.revision:
            self._provisional[fill.gap_id] = number, offset
            return
        before = self._provisional.pop(fill.gap_id, None)
        if before is not None and before[0] == number and before[1] > offset:
            reason = f"revision {fill.revision} of gap fill {fill.gap_id} is at {number}/{offset}, ahead of revision 0"
            self._blame("different", answer.src.offset, fill.entity_id, reason, 1)

    def _compare(self, answer: Outgoing, copies: Sequence[Copy], digest: int, tolerance: Tolerance | None) -> bool:
        """Counts the copies of an answer. Returns False if some may be orphans: then they are counted later."""
        doubts = doubts_of(answer, copies, digest, tolerance)
        if self.doubts.mix(answer, copies, doubts):
            return False
        self._count(answer, copies)
        self.doubts.add(doubts)
        return True

    def _ignore(self, offset: int) -> None:
        """Removes the answers that were published for a record that cannot be judged."""
        self._book.forecasts.take(offset)
        self._book.letters.pop(offset, None)

    def _count(self, answer: Outgoing, copies: Sequence[Copy]) -> None:
        """Counts how often the answer was published."""
        kind = self._kind(answer)
        offset, entity = answer.src.offset, (answer.key or b"").decode(errors="replace")
        if not copies and offset < self.span.committed:
            reason = f"no {kind} although the group committed {self.span.committed}"
            self._blame("lost", offset, entity, reason, 1)
        elif not copies:
            self._tally.open += 1
        else:
            name = kind.replace(" ", "_") + "s"
            setattr(self._tally, name, getattr(self._tally, name) + 1)
        extra = sum(copy.times for copy in copies) - 1
        if extra > 0 and self._rules.once:
            self._blame("duplicated", offset, entity, f"a {kind} came {extra + 1} times", extra)
        elif extra > 0:
            self._tally.again += extra
        if answer.topic == self._rules.topics.forecasts:
            self._atlas(offset, entity, copies)

    def _tolerance(self, entity: str) -> Tolerance | None:
        if self.known.exact(entity):
            return None if self._rules.to_the_bit else self._rules.tolerance
        return self._rules.tolerance

    def _kind(self, answer: Outgoing) -> str:
        topics = self._rules.topics
        return {topics.forecasts: "forecast", topics.gapfills: "gap fill", topics.dead_letters: "dead letter"}[
            answer.topic
        ]

    def _blame(self, verdict: Verdict, offset: int | None, entity: str | None, reason: str, times: int) -> None:
        example = Example(verdict, self._rules.topics.pings, self._partition, offset, entity, reason)
        self._report.blame(example, times)


def by_record(answers: Iterable[Outgoing]) -> dict[int, list[Outgoing]]:
    """Returns the answers to a batch of one partition, by the offset of their input record."""
    grouped: dict[int, list[Outgoing]] = {}
    for answer in answers:
        grouped.setdefault(answer.src.offset, []).append(answer)
    return grouped


def _where(topic: str, copy: Copy) -> str:
    return f"{topic}/{copy.place[0]}@{copy.place[1]}"
