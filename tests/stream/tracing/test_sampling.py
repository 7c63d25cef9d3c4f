"""Which entities are traced: the asked-for share, always the same ones, and more of them with a larger share."""

from __future__ import annotations

import numpy as np
import pytest

from stream.kafka.records.columns import BytesColumn
from stream.tracing.sampling import is_sampled, sample_rows, threshold

KEYS = [f"bus-{n}".encode() for n in range(20_000)]
GOLDEN = [140, 326, 1312, 2286, 2423]  # of a share of 0.001


def chosen(share: float) -> set[int]:
    return set(sample_rows(BytesColumn.of(KEYS), threshold(share)).tolist())


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
def test_about_the_share_is_sampled(share: float) -> None:
    deviation = 5 * np.sqrt(share * (1 - share) * len(KEYS))  # five sigma of a fair hash
    assert abs(len(chosen(share)) - share * len(KEYS)) < deviation


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_the_fast_twin_chooses_the_same(share: float) -> None:
    names = [*(f"bus-{n}" for n in range(2_000)), "", "a", "Zürich 7", "\N{BUS}", "x" * 128]
    column = BytesColumn.of([name.encode() for name in names])
    slow = {row for row, name in enumerate(names) if is_sampled(name, threshold(share))}
    assert set(sample_rows(column, threshold(share)).tolist()) == slow


def test_a_larger_share_only_adds_entities() -> None:
    assert chosen(0.001) < chosen(0.01) < chosen(0.1)


def test_the_ends_are_nobody_and_everybody() -> None:
    assert chosen(0) == set()
    assert len(chosen(1)) == len(KEYS)


def test_the_hash_is_the_same_in_every_release() -> None:
    """Two releases side by side choose the same entities."""
    assert [n for n in range(3_000) if is_sampled(f"bus-{n}", threshold(0.001))] == GOLDEN


def test_a_record_without_a_key_is_sampled_like_an_empty_one() -> None:
    column = BytesColumn.of_some([None, b"", b"bus-1"])
    assert set(sample_rows(column, threshold(1)).tolist()) == {0, 1, 2}


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        threshold(share)
