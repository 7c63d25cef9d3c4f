"""When a batch goes."""

from __future__ import annotations

from stream.delivery.inbox import NEVER, Limits

LIMITS = Limits(max_records=512, max_wait_ms=10.0)


def test_nothing_waits_for_nothing() -> None:
    assert LIMITS.due_at_ms(0, None) == NEVER


def test_a_lone_ping_goes_when_it_has_waited_long_enough() -> None:
    assert LIMITS.due_at_ms(1, 1_000.0) == 1_010.0


def test_a_full_batch_goes_at_once() -> None:
    assert LIMITS.due_at_ms(512, 1_000.0) == 1_000.0


def test_pieces_fit_up_to_the_limit_in_their_order() -> None:
    assert LIMITS.fit([200, 300, 12, 1]) == 3
    assert LIMITS.fit([200, 313, 1]) == 1


def test_a_piece_over_the_limit_still_goes_alone() -> None:
    assert LIMITS.fit([9_000, 1]) == 1
    assert LIMITS.fit([]) == 0
