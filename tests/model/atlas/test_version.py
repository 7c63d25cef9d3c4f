"""An atlas as bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from model.atlas import version
from model.atlas.outcomes import HORIZONS_S
from model.atlas.published import Published
from model.atlas.version import AtlasError, dumps, loads

CONTAINS = {"pings": 12, "entities": 3}


def some(rows: int) -> Published:
    rng, h = np.random.default_rng(rows), len(HORIZONS_S)
    return Published(
        np.sort(rng.choice(2**40, rows, replace=False)).astype(np.int64),
        rng.integers(0, 10**10, (rows, h)),
        rng.integers(-(10**9), 10**9, (rows, h, 2)),
        rng.integers(0, 10**15, (rows, h)),
    )


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 1000])
def test_what_is_written_is_read(rows: int) -> None:
    raw = dumps(some(rows), CONTAINS)
    found, contains = loads(raw)
    assert contains == CONTAINS
    for name in ("key", "n", "off_cm", "off_cm2"):
        assert np.array_equal(getattr(found, name), getattr(some(rows), name))
    assert dumps(found, contains) == raw
    assert len(raw) % 8 == 0


def test_the_order_of_what_it_contains_changes_no_byte() -> None:
    assert dumps(some(3), {"entities": 3, "pings": 12}) == dumps(some(3), CONTAINS)


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    raw = dumps(some(2), CONTAINS)
    for at in range(len(raw)):
        broken = bytearray(raw)
        broken[at] ^= 1
        with pytest.raises(AtlasError):
            loads(bytes(broken))
    for size in range(0, len(raw), 7):
        with pytest.raises(AtlasError):
            loads(raw[:size])
    with pytest.raises(AtlasError, match="was it cut"):
        loads(raw + b"\0" * 8)


def test_sums_that_mean_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = json.loads(json.dumps(version.MEANING)) | {"zooms": [1, 2, 3, 4, 5]}
    with monkeypatch.context() as patched:
        patched.setattr(version, "MEANING", other)
        raw = dumps(some(2), CONTAINS)
    with pytest.raises(AtlasError, match=r"'zooms': \[1, 2, 3, 4, 5\]"):
        loads(raw)


def test_another_layout_is_refused_by_its_number() -> None:
    raw = bytearray(dumps(some(2), CONTAINS))
    raw[4] = 9
    with pytest.raises(AtlasError, match="an atlas of layout 9, and this program reads layout 2"):
        loads(bytes(raw))
