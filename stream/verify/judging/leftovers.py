"""Finds published answers that are due to no record of the input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from stream.verify.judging.trusted_state import TrustedState
from stream.verify.published import Book, Copy
from stream.verify.report import Example, Verdict


def leftovers(book: Book, pings: str, number: int, known: TrustedState) -> Iterator[tuple[Example, int]]:
    """Yields what is left in a partition's book after its last record, with the number of copies of each."""
    start = book.span.start
    for offset in book.forecasts.leftovers():
        if offset >= start:
            yield from _of_a_record("forecast", book, pings, number, offset, book.forecasts.take(offset))
    for offset, copies in book.letters.items():
        if offset >= start:
            yield from _of_a_record("dead letter", book, pings, number, offset, copies)
    for offset, letters in book.faults.items():
        if offset >= start:
            failures = [copy for copies in letters.values() for copy in copies]
            yield from _of_a_record("dead letter", book, pings, number, offset, failures)
    for offset, copies in chain(book.unread.items(), _letters(book)):
        if offset >= start:
            yield from _of_a_record("answer", book, pings, number, offset, copies)
    yield from _fills(book, pings, number, known)


def _letters(book: Book) -> Iterator[tuple[int, list[Copy]]]:
    """Yields the dead letters that state that their entity's stored state could not be read, by offset."""
    for offset, by_code in book.unread_letters.items():
        yield offset, list(chain.from_iterable(by_code.values()))


def _of_a_record(
    kind: str, book: Book, pings: str, number: int, offset: int, copies: Sequence[Copy]
) -> Iterator[tuple[Example, int]]:
    verdict: Verdict = "orphaned" if offset >= book.cut else "unexpected"
    for copy in copies:
        place = f"{copy.place[0]}@{copy.place[1]}"
        reason = f"no {kind} is due to this record; it is at {place}"
        yield Example(verdict, pings, number, offset, None, reason), copy.times


def _fills(book: Book, pings: str, number: int, known: TrustedState) -> Iterator[tuple[Example, int]]:
    """Yields the gap fills that are left. They do not name their record: if the log was truncated, any of them may
    belong to a record that is gone."""
    verdict: Verdict = "orphaned" if book.is_cut else "unexpected"
    for key, copies in book.fills.items():
        entity, issued_ms = book.fill_facts[key]
        if known.could_be_judged_before(entity, issued_ms):
            gap_id, revision, status = key
            for copy in copies:
                place = "/".join(map(str, copy.place))
                reason = f"no {status} gap fill {gap_id} (revision {revision}) is due; it is at {place}"
                yield Example(verdict, pings, number, None, entity, reason), copy.times
