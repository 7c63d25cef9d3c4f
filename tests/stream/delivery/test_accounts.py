"""The accounts: what was taken is what became of it, and what fell out of sight is a number that stays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from engine_rig import one_by_one

from stream.config.settings import Settings
from stream.delivery.accounts import Account, Accounts, Histogram, count_batch, so_far
from stream.delivery.partitions import Owned, Piece
from stream.engine.counts import Counts
from stream.kafka.records.encoded_batches import NONE
from stream.kafka.records.record_columns import Records
from stream.wire import Outgoing, Record, Reject, dead_letter

TOPICS = Settings().topics
P0, P1 = (TOPICS.pings, 0), (TOPICS.pings, 1)


def answer(topic: str, partition: int = 0) -> Outgoing:
    return Outgoing(topic, b"bus", b"{}", (), Record(TOPICS.pings, partition, 0, 0, b"bus", b"{}"))


FORECAST, LETTER, FILL = map(answer, (TOPICS.forecasts, TOPICS.dead_letters, TOPICS.gapfills))
NOTHING = Counts()


def piece(start: int, stop: int, partition: tuple[str, int] = P0, taken: int = 0, at_ms: int = 0) -> Piece:
    records = [Record(*partition, offset, at_ms + offset, b"bus", b"{}") for offset in range(start, stop)]
    return Piece(Owned(partition, taken=taken), Records.of(records), 0.0, lambda: None)


def test_every_outcome_has_its_place_and_together_they_are_all_that_was_taken() -> None:
    accounts = Accounts(TOPICS)
    accounts.take(P0, 25)
    of_batch = {P0: Counts(late=2, quarantined=1, duplicates=3, folded=4)}
    accounts.settle(
        [piece(0, 10), piece(10, 16)], one_by_one([FORECAST] * 6 + [LETTER] * 3 + [FILL] * 5), of_batch, 0.0
    )
    accounts.hand_back([piece(16, 20)])
    assert accounts.accounts[P0] == Account(
        taken=25,
        forecasts=4,
        late=2,
        rejects=2,
        quarantined=1,
        duplicates=3,
        answered_before=4,
        handed_back=4,
        gap_fills=5,
    )
    assert accounts.accounts[P0].count_unaccounted(in_flight=5) == 0
    assert accounts.accounts[P0].count_unaccounted(in_flight=4) == 1, "one has fallen out of the lists"


@pytest.mark.parametrize(("records", "unaccounted"), [(3, 1), (1, -1)], ids=["not published", "published twice"])
def test_an_answer_that_is_missing_or_one_too_many_is_a_record_unaccounted_for(records: int, unaccounted: int) -> None:
    accounts = Accounts(TOPICS)
    accounts.take(P0, records)
    accounts.settle([piece(0, records)], one_by_one([FORECAST, FORECAST]), {P0: NOTHING}, 0.0)
    assert accounts.accounts[P0].count_unaccounted(in_flight=0) == unaccounted


def test_a_batch_counts_what_the_engine_did_in_it_and_what_was_kept_from_the_engine() -> None:
    counts = {P0: Counts(late=1, duplicates=2, folded=7)}
    pieces = [piece(0, 10, taken=6), piece(10, 20, taken=6), piece(0, 3, P1, taken=0)]
    before = so_far(pieces, counts)
    counts[P0].duplicates += 5
    counts[P0].folded += 1
    counts[P1] = Counts(quarantined=1)
    assert count_batch(pieces, before, counts) == {P0: Counts(duplicates=5, folded=7), P1: Counts(quarantined=1)}


def test_what_an_attempt_that_failed_has_counted_is_not_the_next_one_s() -> None:
    counts = {P0: Counts()}
    counts[P0].duplicates += 5  # of a batch that the engine did not survive
    before = so_far([piece(0, 9)], counts)
    counts[P0].duplicates += 5
    assert count_batch([piece(0, 9)], before, counts) == {P0: Counts(duplicates=5)}


def test_a_batch_of_two_partitions_is_settled_in_the_account_of_each() -> None:
    accounts = Accounts(TOPICS)
    answers = one_by_one([FORECAST, answer(TOPICS.forecasts, 1), answer(TOPICS.dead_letters, 1)])
    accounts.settle([piece(0, 2), piece(0, 2, P1)], answers, {P0: Counts(duplicates=1), P1: NOTHING}, 0.0)
    assert accounts.accounts == {P0: Account(forecasts=1, duplicates=1), P1: Account(forecasts=1, rejects=1)}


def rejected(code: str, partition: int = 0) -> Outgoing:
    return dead_letter(
        TOPICS.dead_letters, Record(TOPICS.pings, partition, 0, 0, None, b"x"), Reject(code, ""), version="1"
    )


def test_dead_letters_are_counted_by_their_code_and_only_those_that_were_committed() -> None:
    accounts = Accounts(TOPICS)
    sent_so = dead_letter(
        TOPICS.dead_letters,
        Record(TOPICS.pings, 0, 0, 0, None, b"x", (("__pathcast.errors.code", b"forged"),)),
        Reject("too_late", ""),
        version="1",
    )
    letters = [rejected("empty"), rejected("too_late"), sent_so, rejected("empty", 1), FORECAST, FILL]
    accounts.settle([piece(0, 4)], one_by_one(letters), {P0: NOTHING}, 0.0)
    assert accounts.rejects == {"empty": 1, "too_late": 2}
    accounts.settle([piece(0, 1, P1)], one_by_one([rejected("empty", 1)]), {P1: NOTHING}, 0.0)
    assert accounts.rejects == {"empty": 2, "too_late": 2}


def test_fields_that_were_dropped_count_when_their_pings_are_committed() -> None:
    accounts, counts = Accounts(TOPICS), {P0: Counts(fields_dropped=Counter(speed_mps=3))}
    before = so_far([piece(0, 3)], counts)
    counts[P0].fields_dropped = counts[P0].fields_dropped + Counter(speed_mps=2, sats=1)
    of_batch = count_batch([piece(0, 3)], before, counts)
    assert accounts.fields_dropped == {}
    accounts.settle([piece(0, 3)], one_by_one([FORECAST] * 3), of_batch, 0.0)
    assert accounts.fields_dropped == {"speed_mps": 2, "sats": 1}


def test_answers_of_a_partition_that_was_fenced_do_not_count() -> None:
    accounts = Accounts(TOPICS)
    answers = one_by_one([FORECAST, answer(TOPICS.forecasts, 1)])
    accounts.settle([piece(0, 1)], answers, {P0: NOTHING, P1: Counts(late=1)}, 0.0)
    assert accounts.accounts == {P0: Account(forecasts=1)}


def test_each_record_has_waited_as_long_as_the_oldest_of_its_poll_and_never_less_than_nothing() -> None:
    accounts = Accounts(TOPICS)
    accounts.settle([piece(0, 4, at_ms=1_000), piece(0, 2, P1, at_ms=9_000)], NONE, {P0: NOTHING, P1: NOTHING}, 1_040.0)
    spread = accounts.latency_s.read()
    assert spread.sum == pytest.approx(4 * 0.040)
    assert dict(zip(spread.bounds, spread.at_most, strict=False))[0.05] == 6
    assert spread.at_most[0] == 2, "of a producer whose clock is ahead"


def test_a_record_without_a_time_has_waited_since_it_was_fetched() -> None:
    accounts = Accounts(TOPICS)
    some = replace(piece(0, 2, at_ms=2**62), fetched_ms=1_000.0)
    accounts.settle([some], NONE, {P0: NOTHING}, 1_040.0)
    assert accounts.latency_s.read().sum == pytest.approx(2 * 0.040)


def test_a_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram((0.1, 1.0))
    for value, times in ((0.1, 1), (0.1000001, 2), (1.0, 3), (7.0, 4)):
        histogram.observe(value, times)
    bounds, at_most, total = histogram.read()
    assert (bounds, at_most) == ((0.1, 1.0), [1, 6, 10])
    assert total == pytest.approx(0.1 + 0.2 + 3.0 + 28.0)


def test_a_reading_stays_as_it_was() -> None:
    histogram = Histogram((1.0,))
    histogram.observe(0.5)
    read = histogram.read()
    histogram.observe(0.5)
    assert read.at_most == [1, 1]
