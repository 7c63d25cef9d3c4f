"""Where forecasts are judged: the protocol against a slow reading of its own words."""

from __future__ import annotations

import numpy as np
import pytest
from train_worlds import MakeCorpus, together, track, wander

from train.data.anchors import (
    EARLIER_PINGS,
    TOLERANCE,
    cadence_strata,
    find_anchors,
    keep_long,
    motion_strata,
    take_every_nth,
)
from train.data.corpus import Corpus
from train.data.cutting import EVALUATION


def slowly(corpus: Corpus, horizons_s: tuple[float, ...]) -> dict[int, list[int]]:
    """Anchor row -> rows of its targets (-1: none), word by word from the protocol."""
    found = {}
    for first, last in corpus.tracks.tolist():
        for row in range(first + EARLIER_PINGS, last - 1):
            targets = [row + 1]
            for horizon_s in horizons_s:
                off = {r: abs((corpus.ts_ms[r] - corpus.ts_ms[row]) / 1000 - horizon_s) for r in range(row + 1, last)}
                nearest = min(off, key=lambda r: (off[r], r))
                targets.append(nearest if off[nearest] <= TOLERANCE * horizon_s else -1)
            found[row] = targets
    return found


@pytest.mark.parametrize("seed", range(4))
def test_anchors_and_targets_are_those_of_the_protocol(make_corpus: MakeCorpus, seed: int) -> None:
    cadences = np.random.default_rng(seed).uniform(3, 110, 5)
    corpus = make_corpus(
        together(*(wander(f"v{i}", 40 + i, seed + i, cadence_s=float(c)) for i, c in enumerate(cadences))),
        cut=EVALUATION,
    )
    horizons_s = (60.0, 300.0, 900.0)
    anchors, expected = find_anchors(corpus, horizons_s), slowly(corpus, horizons_s)
    assert anchors.row.tolist() == list(expected)
    assert anchors.target.tolist() == list(expected.values())
    there = anchors.target >= 0
    real_s = (corpus.ts_ms[anchors.target] - corpus.ts_ms[anchors.row][:, None]) / 1000
    np.testing.assert_array_equal(anchors.dt_s[there], real_s[there])
    assert (anchors.dt_s > 0).all()


def test_at_one_ping_a_minute_the_targets_are_one_five_and_fifteen_pings_on(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(track("a", [60.0 * i for i in range(30)], [300.0 * i for i in range(30)]))
    anchors = find_anchors(corpus)
    assert anchors.row.tolist() == list(range(8, 29))
    assert anchors.target[0].tolist() == [9, 9, 13, 23]
    assert anchors.target[-1].tolist() == [29, 29, -1, -1]
    assert anchors.dt_s[-1].tolist() == [60.0, 60.0, 300.0, 900.0]
    assert (anchors.target[:, 3] >= 0).sum() == 10  # the last three at 14, 13 and 12 min, which is within a fifth


def test_a_target_over_a_fifth_off_its_horizon_is_none(make_corpus: MakeCorpus) -> None:
    times = [10.0 * i for i in range(9)] + [80.0 + 72.0, 80.0 + 72.0 + 47.0]
    corpus = make_corpus(track("a", times, [10.0 * i for i in range(11)]))
    # 72 s is just inside a fifth of 60 s, 47 s is one second outside
    assert find_anchors(corpus, (60.0,)).target.tolist() == [[9, 9], [10, -1]]


def test_of_two_targets_as_near_the_earlier_is_meant(make_corpus: MakeCorpus) -> None:
    """As in `stream.wire.scoring`: at a ping each 40 s, 280 and 320 s are both 20 s off."""
    corpus = make_corpus(track("a", [40.0 * i for i in range(20)], [0.0] * 20))
    assert find_anchors(corpus, (300.0,)).target[0].tolist() == [9, 8 + 7]


def test_strata_say_what_the_entity_was_doing(make_corpus: MakeCorpus) -> None:
    # east at 10 m/s until 80 s, then north, then at rest: the last two steps of each anchor are known by heart
    east = [100.0 * i for i in range(9)] + [800.0] * 4
    north = [0.0] * 9 + [100.0, 200.0, 200.0, 200.0]
    corpus = make_corpus(track("a", [10.0 * i for i in range(13)], east, north))
    anchors = find_anchors(corpus)
    assert anchors.row.tolist() == [8, 9, 10, 11]
    strata = motion_strata(corpus, anchors)
    assert strata["moving"].tolist() == [True, False, True, False]
    assert strata["turning"].tolist() == [False, True, False, False]
    assert strata["stopped"].tolist() == [False, False, False, True]


def test_half_a_metre_a_second_is_motion_and_thirty_degrees_are_a_turn(make_corpus: MakeCorpus) -> None:
    # east at 10 m/s; 25 degrees to the left, 35 more; 0.4 m/s; and at 0.6 m/s across, which is no turn after a rest
    steps_m = np.array([100.0] * 10 + [4.0, 6.0, 6.0])
    angle = np.radians([0.0] * 8 + [25.0, 60.0, 60.0, 150.0, 150.0])
    east, north = (np.concatenate([[0.0], np.cumsum(steps_m * f(angle))]).tolist() for f in (np.cos, np.sin))
    corpus = make_corpus(track("a", [10.0 * i for i in range(14)], east, north))
    strata = motion_strata(corpus, find_anchors(corpus))
    assert strata["moving"].tolist() == [True, True, False, False, True]
    assert strata["turning"].tolist() == [False, False, True, False, False]
    assert strata["stopped"].tolist() == [False, False, False, True, False]


def test_a_cadence_is_that_of_the_last_eight_intervals_and_not_of_the_next(make_corpus: MakeCorpus) -> None:
    times = np.cumsum([0.0, 60.0, 5.0, 5.0, 5.0, 5.0, 60.0, 60.0, 60.0, 5.0])  # with the last one 5 s were the median
    corpus = make_corpus(track("a", times.tolist(), [0.0] * 10))
    (stratum,) = (name for name, mask in cadence_strata(corpus, find_anchors(corpus)).items() if mask.any())
    assert stratum == "cadence 10-45 s"


def test_every_anchor_has_one_cadence(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(
        together(*(wander(f"v{i}", 30, i, cadence_s=c) for i, c in enumerate((2.0, 20.0, 60.0, 120.0)))), cut=EVALUATION
    )
    anchors = find_anchors(corpus)
    strata = cadence_strata(corpus, anchors)
    assert list(strata) == ["cadence 0-10 s", "cadence 10-45 s", "cadence 45-90 s", "cadence 90-inf s"]
    for number, mask in enumerate(strata.values()):
        np.testing.assert_array_equal(mask, anchors.track == number)


def test_thinning_takes_every_nth_track_and_says_n(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(together(*(wander(f"v{i:02}", 29, i) for i in range(20))))  # 20 anchors each
    assert len(find_anchors(corpus).row) == 400
    whole, every = take_every_nth(corpus, None)
    assert (len(whole), every) == (20, 1)
    some, every = take_every_nth(corpus, 100)
    assert (len(some), every) == (5, 4)
    assert [some.names[i] for i in some.entity] == ["v00", "v04", "v08", "v12", "v16"]
    some, every = take_every_nth(corpus, 150)  # every second would be 200
    assert (len(some), every) == (7, 3)
    assert len(keep_long(make_corpus(wander("short", 9, 0), name="short.parquet"))) == 0
