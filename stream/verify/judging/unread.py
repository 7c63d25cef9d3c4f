"""Judges answers that a worker gave without the stored state of their entity, which each of them states.

While the store cannot be read, a worker treats an entity that is not in memory as new, and marks every answer with that
("unread"). A replay has no such outage, so it makes other numbers, and sometimes another outcome: the whole track may
reject a ping that the short one forecasts, or already contain it. None of that is wrong, because the answer is marked.
Only the ping that it answers must be right. Later the worker folds these pings into the stored state, so every later
answer and every stored state must be that of the replay.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from stream.verify.compare import as_published, digest_anchor, digest_letter
from stream.verify.published import Book, Copy
from stream.verify.report import Example, Report, Verdict
from stream.wire import E7, Anchor, Outgoing, Ping, Record, Reject, Topics, dead_letter

STAGE: Final = "track"  # the stage that rejects a ping of a short track


class Unread:
    """Judges the unread answers of one partition."""

    def __init__(self, number: int, book: Book, topics: Topics, report: Report, *, once: bool) -> None:
        """`once`: exactly_once, where a second copy is an error."""
        self._number = number
        self._book = book
        self._topics = topics
        self._report = report
        self._tally = report.tally(number)
        self._once = once
        self._times: defaultdict[str, set[int]] = defaultdict(set)  # times of the pings answered so, by entity

    def take(self, record: Record, ping: Ping | None, *, judged: bool) -> bool:
        """Returns whether any answer to this record is marked so. Judges those answers and removes them."""
        copies, others = self._pop(record, ping)
        may_be_gone = record.offset >= self._book.cut  # the record that the others answer
        if judged:
            verdict: Verdict = "orphaned" if may_be_gone else "different"
            reason = "an answer to a record that is gone" if may_be_gone else "it answers another ping"
            for copy in others:
                place = f"{copy.place[0]}@{copy.place[1]}"
                self._blame(verdict, record, ping, f"{reason} (at {place})", copy.times)
        if not may_be_gone:
            copies += others
        if not copies:
            return False
        if ping is not None:
            self._times[ping.entity_id].add(ping.ts)
        if judged:
            self._tally.unread += 1
            extra = sum(copy.times for copy in copies) - 1 + self._book.has_answer(record.offset)
            if extra and self._once:
                self._blame("duplicated", record, ping, f"an answer came {extra + 1} times", extra)
            else:
                self._tally.again += extra
        return True

    def repeats(self, ping: Ping, *, judged: bool) -> bool:
        """Returns whether a ping of the same time was answered so: the short track then dropped this one as a
        duplicate, without an answer."""
        found = ping.ts in self._times.get(ping.entity_id, ())
        self._tally.unread += found and judged
        return found

    def _pop(self, record: Record, ping: Ping | None) -> tuple[list[Copy], list[Copy]]:
        """Removes the unread answers to this record. Returns those that are due to it, and all others."""
        due = [(copy, None if ping is None else _of(record, ping)) for copy in self._book.unread.pop(record.offset, [])]
        for code, copies in self._book.unread_letters.pop(record.offset, {}).items():
            letter = digest_letter(as_published(self._letter(record, code)))
            due += [(copy, letter) for copy in copies]
        return [copy for copy, one in due if copy.digest == one], [copy for copy, one in due if copy.digest != one]

    def _letter(self, record: Record, code: str) -> Outgoing:
        reject = Reject(code, "", STAGE, retryable=True, unread=True)
        return dead_letter(self._topics.dead_letters, record, reject, version="")

    def _blame(self, verdict: Verdict, record: Record, ping: Ping | None, reason: str, times: int) -> None:
        entity = None if ping is None else ping.entity_id
        self._report.blame(Example(verdict, record.topic, self._number, record.offset, entity, reason), times)


def _of(record: Record, ping: Ping) -> int:
    lat, lon = (round(degrees * E7) / E7 for degrees in (ping.lat, ping.lon))
    return digest_anchor(record.key, ping.entity_id, Anchor(ping.ts, lat, lon))
