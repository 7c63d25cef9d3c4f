"""Shadows: they forecast what a worker with their weights would, whoever begins anew; and change no other score."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from functools import cache

import msgspec
import pytest
from msgspec.structs import replace
from scores_rig import PARTITION, RULES, T0, Fix, fixes, records, rows, scored

from model.api import Predictor
from stream.commands.replay import engine_of
from stream.config.settings import UNLIMITED, Settings
from stream.kafka.log import Log, Seen, start_of
from stream.kafka.records.record_columns import Records
from stream.services.scores.owned import Decided, Owned
from stream.services.scores.scoring.scorer import Scorer
from stream.services.scores.settings import ScoreSettings
from stream.services.scores.shadows.following import MOST_AGAIN, WINDOWS, begin_of, check_partitions
from stream.services.scores.shadows.lane import SPARE, Lane, engine_settings
from stream.services.scores.summaries import shadows_paired, summaries
from stream.services.scores.sums import PUBLISHED, SHADOW, Sums
from stream.wire import Ping, Record, Score, dumps, dumps_scored, loads_forecast, loads_scored
from stream.wire.ids import forecast_id

PINGS = ("pathcast.pings.v1", 3)
HORIZONS_S = (60.0, 300.0)
SEED = 5


def pings_of(track: Sequence[Fix]) -> Records:
    made = (Ping(entity_id=one.entity_id, ts=one.ts, lat=one.lat, lon=one.lon) for one in track)
    return Records.of([Record(*PINGS, n, one.ts, one.entity_id.encode(), dumps(one)) for n, one in enumerate(made)])


@cache
def feed() -> Records:
    print(f"seed {SEED}")
    return pings_of(fixes(random.Random(SEED), entities=40, minutes=120))


def lane(first: int = 0, most: int = 1_000, weights: str = "small") -> Lane:
    settings = engine_settings("pathcast", HORIZONS_S)
    return Lane(Predictor.load(weights, capacity=4), PINGS, settings, first=first, most=most)


def said(one: Lane, some: Records, *, step: int) -> dict[int, bytes]:
    async def folded() -> dict[int, bytes]:
        found = {}
        for at in range(0, len(some), step):
            part = some[at : at + step]
            await one.fold(part)
            for offset in part.offsets.tolist():
                if (forecast := one.take(offset)) is not None:
                    found[offset] = forecast
        return found

    return asyncio.run(folded())


def test_a_shadow_says_what_a_worker_with_its_weights_would_publish() -> None:
    settings = Settings(weights="small-research", horizons_s=HORIZONS_S, max_stored_entities=UNLIMITED)
    answers = asyncio.run(engine_of(settings).process(feed(), started_ms=0.0, fetched_ms=0.0))
    expected = {one.src.offset: one.value for one in answers if one.topic == settings.topics.forecasts}
    found = said(lane(weights="small-research"), feed(), step=97)
    assert len(found) > 1_000
    assert {offset: bare(raw) for offset, raw in found.items()} == {o: bare(raw or b"") for o, raw in expected.items()}


def bare(raw: bytes) -> bytes:
    return dumps(replace(loads_forecast(raw), cache="hit"))  # which tells who had to rebuild a state, and nothing else


def test_who_begins_anew_at_the_same_ping_says_the_same_and_nothing_of_earlier_pings() -> None:
    first = len(feed()) // 2
    whole, again = said(lane(), feed(), step=50), said(lane(first), feed(), step=333)
    assert min(again) >= first
    assert {offset: bare(raw) for offset, raw in again.items()} == {
        offset: bare(raw) for offset, raw in whole.items() if offset >= first
    }


def test_a_forecast_is_taken_once() -> None:
    one = lane()
    asyncio.run(one.fold(feed()[:10]))
    assert one.take(9) is not None
    assert one.take(9) is None


def test_entities_are_bounded_and_the_one_that_was_silent_longest_is_forgotten() -> None:
    most, many = 20, 200
    track = [Fix(f"e{n}", T0 + 1_000 * n, 30.0 + n / 100, -97.0) for n in range(many)]
    regular = [Fix("stays", T0 + 1_000 * n + 500, 30.0, -97.0 + n / 10_000) for n in range(many)]
    both = sorted(track + regular, key=lambda fix: fix.ts)
    one, sizes = lane(most=most), []
    forecasts = {}
    rows = pings_of(both)
    for at in range(0, len(rows), 10):
        forecasts |= said(one, rows[at : at + 10], step=10)
        sizes.append(one.entities)
    assert max(sizes) <= SPARE * most
    assert len(forecasts) == len(rows), "who was forgotten starts anew"
    last = loads_forecast(forecasts[len(rows) - 1])
    assert (last.entity_id, last.status) == ("stays", "ok")


# -- scores -----------------------------------------------------------------------------------------------------------


def shadow_of(raw: bytes) -> bytes:
    """What other weights say of the same ping: all a little elsewhere."""
    one = loads_forecast(raw)
    horizons = tuple(replace(horizon, lat=horizon.lat + 1e-4) for horizon in one.horizons)
    made = forecast_id(one.entity_id, one.anchor.ts, "s1", None)
    return dumps(replace(one, forecast_id=made, model=replace(one.model, version="s1"), atlas=None, horizons=horizons))


@pytest.fixture(params=[1, 2])
def log(request: pytest.FixtureRequest) -> list[bytes]:
    return records(request.param, entities=12, minutes=200)


def beside(log: Sequence[bytes], low: int, high: int) -> list[tuple[bytes, ...]]:
    """A shadow that was announced from record 500 on; not of every ping, as the other engine may reject some."""
    return [(shadow_of(raw),) if at >= 500 and at % 7 else () for at, raw in enumerate(log[:high])][low:]


def test_a_shadow_changes_no_score_of_what_was_published_and_no_drift(log: list[bytes]) -> None:
    settings = ScoreSettings()
    alone = Owned(PARTITION, settings, None, None)
    expected = alone.fold(rows(log, 0, len(log)))
    both = Owned(PARTITION, settings, None, None)
    found = both.fold(rows(log, 0, len(log)), beside(log, 0, len(log)))
    published = [one for one in found if not (isinstance(one.record, Score) and one.record.shadow)]
    assert published == expected
    assert both.metadata(len(log), Seen()) == alone.metadata(len(log), Seen())
    shadows = [one.record for one in found if one not in published]
    assert len(shadows) > 250
    assert {one.model.version for one in shadows if isinstance(one, Score)} == {"s1"}


def test_members_that_follow_each_other_score_shadows_as_one_alone_does(log: list[bytes]) -> None:
    settings = ScoreSettings()
    whole = Owned(PARTITION, settings, None, None).fold(rows(log, 0, len(log)), beside(log, 0, len(log)))
    cuts = [0, *sorted(random.Random(SEED).sample(range(1, len(log)), 12)), len(log)]
    committed: tuple[int, str] | None = None
    found: list[Decided] = []
    for high in cuts[1:]:
        start = start_of(committed and committed[0], Seen(), Log(0, len(log)))
        owned = Owned.taken_over(PARTITION, settings, committed, start)
        begin = owned.begin or 0
        found += owned.fold(rows(log, begin, high), beside(log, begin, high))
        committed = high, owned.metadata(high, Seen(high))
    assert found == whole


def test_a_shadow_is_scored_against_the_pings_that_followed() -> None:
    """The shadow says the same as what was published: so its scores are the same, too."""
    log = records(3, copies=False)
    scorer, found = Scorer(RULES), []
    for offset, raw in enumerate(log):
        found += scorer.fold(offset, raw)
        same = loads_forecast(raw)
        other = replace(same, forecast_id=f"s{offset}", model=replace(same.model, version=f"s-{same.model.version}"))
        found += scorer.fold(offset, dumps(other), shadow=True)
    mine = {(one.entity_id, one.anchor_ts, one.model.version): one for one in found}
    pairs = 0
    for (entity, ts, version), one in mine.items():
        twin = mine.get((entity, ts, f"s-{version}"))
        if twin is not None:
            pairs += 1
            assert (twin.next, twin.horizons, twin.shadow, one.shadow) == (one.next, one.horizons, True, False)
    assert pairs == len(scored(log)) > 250


def test_the_record_says_that_it_is_a_shadows_and_else_nothing_of_it() -> None:
    (one, *_) = scored(records(1))
    assert b"shadow" not in dumps_scored(one)
    told = dumps_scored(replace(one, shadow=True))
    assert msgspec.json.decode(told)["shadow"] is True
    assert loads_scored(told) == replace(one, shadow=True)


def test_a_shadow_has_rows_of_its_own_and_is_paired_with_what_was_published(log: list[bytes]) -> None:
    owned = Owned(PARTITION, ScoreSettings(drift=False), None, None)
    found = [one.record for one in owned.fold(rows(log, 0, len(log)), beside(log, 0, len(log)))]
    scores = [one for one in found if isinstance(one, Score)]
    assert {(labels.model, labels.role) for labels in summaries(scores)} == {
        ("m1", PUBLISHED),
        ("m2", PUBLISHED),
        ("s1", SHADOW),
    }
    paired = shadows_paired(scores)
    assert set(paired) == {("s1", "m1")}, "m2 asked an atlas, and shadows ask none"
    assert paired["s1", "m1"].n > 300
    sums = Sums()
    for one in scores:
        sums.add(one)
    assert {(labels.model, labels.role) for labels in sums.sums} == {
        ("m1", PUBLISHED),
        ("m2", PUBLISHED),
        ("s1", SHADOW),
    }


# -- where it begins --------------------------------------------------------------------------------------------------


def test_a_successor_begins_at_the_same_ping_until_the_shadow_is_old() -> None:
    assert begin_of(100, 100) == begin_of(100, MOST_AGAIN) == 0
    first = 10 * WINDOWS
    begin = first - WINDOWS
    assert {begin_of(first, low) for low in range(first, begin + MOST_AGAIN, 10_007)} == {begin}
    old = first + 2 * MOST_AGAIN
    assert begin_of(first, old) == old - MOST_AGAIN


def test_topics_that_are_partitioned_otherwise_are_refused() -> None:
    settings = ScoreSettings()
    counts = {settings.topics.pings: 8, settings.topics.forecasts: 4}
    with pytest.raises(ValueError, match=r"pings\.v1 has 8 partitions and .*forecasts\.v1 has 4"):
        check_partitions(None, settings, lambda _, topic: counts[topic])
    check_partitions(None, settings, lambda _, topic: 4)
