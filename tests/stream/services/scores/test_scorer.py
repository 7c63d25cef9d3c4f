"""Scores of a partition: equal to their definition, the same after a crash, and bounded in memory."""

from __future__ import annotations

import random

import msgspec
import pytest
from msgspec.structs import replace
from scores_rig import HORIZONS_S, RULES, T0, Fix, answered, by_definition, records, scored

from stream.services.scores.scoring.clock import Clock
from stream.services.scores.scoring.scorer import Scorer
from stream.services.scores.scoring.waiting import SLOT_MS
from stream.wire import Score, dumps, loads_forecast
from stream.wire.scoring import distance_m

SEEDS = range(6)


def by_id(scores: list[Score]) -> dict[str, Score]:
    found: dict[str, Score] = {}
    for score in scores:
        found.setdefault(score.forecast_id, score)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_are_those_of_the_definition(seed: int) -> None:
    log = records(seed, entities=4, minutes=100)
    found, expected = scored(log), by_definition(log)
    assert len(by_id(found)) == len(found), "no score comes twice"
    assert by_id(found).keys() == expected.keys()
    for name, score in expected.items():
        assert by_id(found)[name] == score
    outcomes = [one for score in found for one in (score.next, *score.horizons)]
    assert {one.h_s for one in outcomes if one.error_m is not None} == {None, *HORIZONS_S}
    assert any(one.error_m is None for one in outcomes), "silences are among them"
    assert any(one.error_m is not None and one.damped_error_m is None for one in outcomes), "and first pings"


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_takes_over_at_any_record_goes_on_as_if_nothing_had_happened(seed: int) -> None:
    log = records(seed + 100)
    expected = scored(log)
    rng = random.Random(seed)
    crashes = set(rng.sample(range(len(log)), 25))
    scorer, found, again = Scorer(RULES), [], 0
    for offset, raw in enumerate(log):
        if offset in crashes:
            mark = scorer.oldest() or scorer.clock.at(offset)
            mark = msgspec.json.decode(msgspec.json.encode(mark), type=type(mark))
            clock = scorer.clock
            scorer = Scorer(RULES, start=mark)
            for earlier in range(mark.offset, offset):
                scorer.fold(earlier, log[earlier])
            assert scorer.clock == clock
            again += offset - mark.offset
        found += scorer.fold(offset, raw)
    assert found == expected
    assert again < 0.9 * sum(crashes), "it does not read everything again"


def test_a_copy_of_what_was_decided_is_no_new_forecast_and_no_new_track() -> None:
    log, scorer = answered(moving("ab"[n % 2], 10 * n) for n in range(600)), Scorer(RULES)
    first = [score for offset, raw in enumerate(log) for score in scorer.fold(offset, raw)]
    counts = scorer.counts.copy()
    again = [score for offset, raw in enumerate(log[len(log) // 2 :], len(log)) for score in scorer.fold(offset, raw)]
    assert len(first) > 400
    assert again == []
    assert scorer.counts["copy"] > 0
    assert scorer.counts["waits"] == counts["waits"]
    assert scorer.counts["anew"] == counts["anew"]


def moving(name: str, seconds: float) -> Fix:
    return Fix(name, T0 + round(1000 * seconds), 30 + seconds * 1e-4, -97.0)


def test_a_track_that_begins_anew_back_in_time_is_scored_anew() -> None:
    """A receiver whose clock was 8 hours ahead is put right: its worker answers earlier pings again."""
    order = [*range(0, 1_000, 20), *range(29_000, 29_100, 20), *range(1_000, 3_000, 20)]
    scorer = Scorer(RULES)
    found = by_id(scored(answered(moving("bus", seconds) for seconds in order), scorer))
    assert scorer.counts["anew"] == 1
    late = [score for score in found.values() if T0 + 1_000_000 <= score.anchor_ts < T0 + 1_600_000]
    assert len(late) == 30, "as if there had been no other pings"
    assert all(one.dt_s for score in late for one in (score.next, *score.horizons))


def test_one_clock_that_is_ahead_makes_nobody_silent_and_two_do() -> None:
    clock = Clock().after("a", 1_000).after("b", 900)
    assert clock.now_ms == 900
    assert clock.after("c", 10**9).now_ms == 1_000
    assert clock.after("c", 10**9).after("c", 10**10).now_ms == 1_000
    assert clock.after("c", 10**9).after("d", 10**8).now_ms == 10**8


def test_what_waits_for_an_entity_that_ended_is_given_up_when_the_others_went_on() -> None:
    ends = [moving("ends", 20 * n) for n in range(30)]
    others = [moving(name, 20 * n + 1) for n in range(200) for name in ("a", "b")]
    scorer = Scorer(RULES)
    log = answered(sorted([*ends, *others], key=lambda fix: fix.ts))
    found = [score for score in scored(log, scorer) if score.entity_id == "ends"]
    assert len(found) == 30
    assert scorer.counts["silent"] == 1
    assert found[-1].next.dt_s is None
    assert all(one.dt_s is None for one in found[-1].horizons)
    assert scorer.standing().entities == 2


def test_what_is_kept_of_an_entity_is_bounded_at_any_cadence() -> None:
    scorer, most = Scorer(RULES), 0
    for offset, raw in enumerate(answered(moving("fast", 0.05 * n) for n in range(30_000))):  # 20 pings a second
        scorer.fold(offset, raw)
        most = max(most, scorer.standing().forecasts)
    assert RULES.span_ms // SLOT_MS - 1 <= most <= RULES.span_ms // SLOT_MS + 1
    (entity,) = scorer._entities.values()
    assert len(entity._times) <= 1.01 * RULES.span_ms / 100
    assert scorer.counts["thinned"] > 0


def test_entities_are_bounded_and_the_one_that_was_silent_longest_is_given_up() -> None:
    scorer = Scorer(RULES, max_entities=20)
    found = scored(answered(moving(f"e{n}", n) for n in range(50)), scorer)
    assert scorer.standing().entities == 20
    assert [score.entity_id for score in found] == [f"e{n}" for n in range(30)]
    assert scorer.counts["evicted"] == 30


def test_what_is_no_forecast_is_counted_and_disturbs_nothing() -> None:
    log = records(3, entities=3, minutes=60)
    scorer = Scorer(RULES)
    spoilt: list[bytes | None] = []
    for raw in log:
        spoilt += [raw, None, b"", b"{}", b"\xff", raw[:-1]]
    found = [score for offset, raw in enumerate(spoilt) for score in scorer.fold(offset, raw)]
    assert found == scored(log)
    assert scorer.counts["unreadable"] == 5 * len(log)


def test_horizons_beyond_the_longest_have_no_outcome() -> None:
    log = answered(moving("bus", 20 * n) for n in range(200))
    found = scored(log, Scorer(RULES._replace(longest_s=300.0)))
    assert all(score.horizons[2].dt_s is None and score.horizons[1].dt_s is not None for score in found)
    assert len(found) > len(scored(log)), "and nobody waits for them"


def test_a_version_of_which_only_the_atlas_differs_is_scored_beside_the_other() -> None:
    versions = [("m", None), ("m", "a"), ("m", "b")]
    found = scored(answered((moving("bus", 20 * n) for n in range(100)), versions))
    assert len({score.anchor_ts for score in found}) * 3 == len(found)


def test_a_forecast_at_the_date_line_is_not_on_the_other_side_of_the_world() -> None:
    lons = [round((179.95 + n * 1e-3 + 180) % 360 - 180, 7) for n in range(200)]
    straight = []
    for raw in answered(Fix("ship", T0 + 20_000 * n, 0.0, lon) for n, lon in enumerate(lons)):
        one = loads_forecast(raw)
        d_lon = (one.next.d_lon + 180) % 360 - 180
        straight.append(dumps(replace(one, next=replace(one.next, d_lon=d_lon))))
    found = scored(straight)
    assert max(score.next.damped_error_m or 0.0 for score in found) < 10_000


@pytest.mark.parametrize("change", [{"lat": 1e308}, {"lon": -1e308}, {"lat": 1e16}, {"ts": 10**30}])
def test_numbers_that_no_worker_writes_are_no_forecast(change: dict[str, float]) -> None:
    """A sine of infinity ended the member at each start."""
    log, scorer = records(3, entities=2, minutes=60), Scorer(RULES)
    broken = loads_forecast(log[10])
    log[10] = dumps(replace(broken, anchor=replace(broken.anchor, **change)))
    assert [one for offset, raw in enumerate(log) for one in scorer.fold(offset, raw)]
    assert scorer.counts["unreadable"] == 1


def test_a_place_beyond_a_pole_has_a_distance() -> None:
    assert distance_m(90.7662166205815, 0.0, 89.2337833794185, 180.0) < 1, "the same place, but for rounding"
