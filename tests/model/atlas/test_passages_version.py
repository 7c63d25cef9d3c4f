"""Passages as bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from model.atlas import version
from model.atlas.believing import HORIZONS_S, NOTHING, UNFITTED, Belief
from model.atlas.buckets import buckets
from model.atlas.passages import Passages
from model.atlas.published import NUMBERS, Published, publish
from model.atlas.version import AtlasError, dumps, loads
from model.atlas.ways import ON_S, PASSAGE

CONTAINS = {"pings": 12, "entities": 3}
BELIEF = Belief(np.array([0.25, NOTHING, 1.0]), np.array([0.1, 0.0, -0.7]))


def some(buckets: int, each: int = 3) -> Published:
    rng, rows = np.random.default_rng(buckets), buckets * each
    return Published(
        np.sort(rng.choice(2**40, buckets, replace=False)).astype(np.int64),
        each * np.arange(1, buckets + 1),
        rng.integers(-(10**9), 10**9, (buckets, 2)).astype(np.int32),
        rng.integers(-30_000, 30_000, (rows, NUMBERS)).astype(np.int16),
        rng.integers(-30_000, 30_000, (rows, len(ON_S), 2)).astype(np.int16),
        rng.integers(0, len(ON_S) + 1, rows).astype(np.uint8),
        rng.integers(0, 2**16, rows).astype(np.uint16),
    )


@pytest.mark.parametrize("buckets", [0, 1, 2, 7, 500])
def test_what_is_written_is_read(buckets: int) -> None:
    raw = dumps(some(buckets), BELIEF, CONTAINS)
    found = loads(raw)
    assert found.contains == CONTAINS
    for one, other in zip((*found.passages, *found.belief), (*some(buckets), *BELIEF), strict=True):
        assert np.array_equal(one, other)
    assert dumps(*found) == raw
    assert len(raw) % 8 == 0


@pytest.mark.parametrize("lat_e7", [0, 302_700_000, -849_900_000, 850_000_000])
@pytest.mark.parametrize("lon_e7", [0, -977_400_000, 1_799_999_000, -1_800_000_000])
def test_places_ways_in_and_velocities_are_read_as_they_were(lat_e7: int, lon_e7: int) -> None:
    """Also where a cell is largest, and at the end of the map, which is its beginning."""
    rng, rows = np.random.default_rng(7), np.zeros(400, PASSAGE)
    rows["lat_e7"] = lat_e7 + rng.integers(-30_000, 30_000 if lat_e7 < 850_000_000 else 1, len(rows))
    rows["lon_e7"] = (lon_e7 + rng.integers(-30_000, 30_000, len(rows)) + 1_800_000_000) % 3_600_000_000 - 1_800_000_000
    rows["lon_e7"][:20] = 1_800_000_000
    rows["in_m"], rows["velocity"] = rng.integers(-32_767, 32_768, (400, 3, 2)), rng.integers(-1_000, 1_001, (400, 2))
    rows["bucket"] = buckets(rows["lat_e7"], rows["lon_e7"], np.zeros((400, 2)))
    rows = rows[np.argsort(rows["bucket"], kind="stable")]
    found = loads(dumps(publish(Passages(rows)), BELIEF, CONTAINS)).passages
    for column in ("lat_e7", "in_m", "velocity"):
        assert (getattr(found, column) == rows[column]).all(), column
    assert ((found.lon_e7 - rows["lon_e7"].astype(np.int64)) % 3_600_000_000 == 0).all()
    assert found.signatures(np.array([[7, 399]])).in_m.tolist() == [rows["in_m"][[7, 399]].tolist()]
    assert len(found.bucket) > 3


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    raw = dumps(some(1, 1), BELIEF, CONTAINS)
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


def test_older_layouts_are_refused_by_a_sentence_and_a_later_one_by_another() -> None:
    for layout, sentence in ((1, "build it anew from the pings"), (2, "build it anew"), (9, "of a later release")):
        raw = bytearray(dumps(some(2), BELIEF, CONTAINS))
        raw[4] = layout
        with pytest.raises(AtlasError, match=f"an atlas of layout {layout}, .*{sentence}"):
            loads(bytes(raw))


def test_passages_that_mean_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(version, "MEANING", json.loads(json.dumps(version.MEANING)) | {"zoom": 12})
        raw = dumps(some(2), BELIEF, CONTAINS)
    with pytest.raises(AtlasError, match="'zoom': 12"):
        loads(raw)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"stop": np.array([3, 9])}, "do not hold its passages"),
        ({"stop": np.array([6, 6])}, "do not rise"),
        ({"stop": np.array([-3, 6])}, "do not rise"),
        ({"bucket": np.array([5, 5])}, "do not rise"),
        ({"known": np.full(6, len(ON_S) + 1, np.uint8)}, "longer than ways are"),
    ],
)
def test_passages_that_would_be_read_beyond_their_end_are_refused(change: dict[str, object], sentence: str) -> None:
    """Whoever writes such a file gives it its checksum."""
    with pytest.raises(AtlasError, match=sentence):
        loads(dumps(some(2)._replace(**change), BELIEF, CONTAINS))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [float("nan"), -1.0, 0.0])
def test_a_belief_that_is_no_number_is_refused(number: float) -> None:
    for belief in (Belief(np.full(len(HORIZONS_S), number), UNFITTED.log_wide), UNFITTED._replace(log_wide=np.ones(2))):
        with pytest.raises(AtlasError, match="how far it is believed"):
            loads(dumps(some(2), belief, CONTAINS))
