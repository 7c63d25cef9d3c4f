"""Sums that come and go as blocks: they are those that all at once would be, and no key is in two blocks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from atlas_worlds import same
from hypothesis import given
from hypothesis import strategies as st

from model.atlas.runs import gathered, in_blocks, merged
from model.atlas.sums import BUCKETS, Sums, keys_of, rows_of

# A run: keys, buckets and offsets. Keys are few, so that runs share them, and the first ones are of the largest cells.
RUN = st.lists(st.tuples(st.integers(0, 12), st.integers(0, BUCKETS - 1), st.integers(-(10**7), 10**7)), max_size=80)


def sums_of(drawn: list[tuple[int, int, int]]) -> Sums:
    key, bucket, off = np.array(drawn, np.int64).reshape(-1, 3).T
    return Sums.of(rows_of(key << 57 | key << 20, bucket), key % 5, np.stack([off, -off], axis=1))


def each_key_is_in_one(blocks: list[Sums]) -> bool:
    return all(len(one) for one in blocks) and all(
        keys_of(one.row[-1:])[0] < keys_of(other.row[:1])[0] for one, other in pairwise(blocks)
    )


@given(st.lists(RUN, max_size=5), st.integers(1, 40), st.integers(1, 200))
def test_runs_that_are_merged_are_the_total_in_blocks_of_whole_keys(drawn: Any, rows: int, more: int) -> None:
    all_ = [sums_of(one) for one in drawn]
    blocks = list(merged(in_blocks(one, rows) for one in all_))
    assert same(Sums.total(blocks), Sums.total(all_))
    assert each_key_is_in_one(blocks)
    large = list(gathered(iter(blocks), more))
    assert same(Sums.total(large), Sums.total(all_))
    assert each_key_is_in_one(large)
    assert all(more / 2 < len(one) + len(other) for one, other in pairwise(large))
    assert max(map(len, large), default=0) < more + BUCKETS


@pytest.mark.parametrize("rows", [1, 3, 7, 10_000])
def test_a_block_has_few_rows_more_than_it_should(rows: int) -> None:
    many = sums_of([(key, bucket, 1) for key in range(7) for bucket in range(BUCKETS)])
    for blocks in list(in_blocks(many, rows)), list(gathered([many], rows)):
        assert same(Sums.total(blocks), many)
        assert each_key_is_in_one(blocks)
        assert max(map(len, blocks)) < rows + BUCKETS


def test_of_each_run_one_block_is_read_at_a_time() -> None:
    many = sums_of([(key, bucket, 1) for key in range(7) for bucket in range(BUCKETS)])
    read = [0, 0]

    def reading(which: int) -> Any:
        for block in in_blocks(many, BUCKETS):
            read[which] += 1
            yield block

    for number, block in enumerate(merged([reading(0), reading(1)]), 1):
        assert len(block) == BUCKETS
        assert read == [min(number + 1, 7)] * 2
