"""When a batch goes."""

from __future__ import annotations

import pytest

from stream.delivery.inbox import NEVER, Limits

LIMITS = Limits(max_records=512, max_wait_ms=10.0)


@pytest.mark.parametrize(
    ("records", "oldest_ms", "due_ms"),
    [(0, None, NEVER), (1, 1_000.0, 1_010.0), (512, 1_000.0, 1_000.0)],
    ids=["nothing waits for nothing", "a lone ping goes when it has waited long enough", "a full batch goes at once"],
)
def test_a_batch_is_due(records: int, oldest_ms: float | None, due_ms: float) -> None:
    assert LIMITS.due_at_ms(records, oldest_ms) == due_ms


@pytest.mark.parametrize(("pieces", "fit"), [([200, 300, 12, 1], 3), ([200, 313, 1], 1), ([9_000, 1], 1), ([], 0)])
def test_pieces_fit_up_to_the_limit_in_their_order_but_one_over_it_goes_alone(pieces: list[int], fit: int) -> None:
    assert LIMITS.fit(pieces) == fit
