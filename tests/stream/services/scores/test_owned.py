"""What a commit says, and what a member counts."""

from __future__ import annotations

import logging
import random
from itertools import pairwise

import msgspec
import pytest
from scores_rig import PARTITION, records, rows, score

from stream.kafka.log import History, Log, Seen, Start, start_of
from stream.services.scores.owned import CommitMetadata, Decided, Owned, read_seen
from stream.services.scores.scoring.clock import Mark
from stream.services.scores.scoring.drift import REFERENCE, State
from stream.services.scores.scoring.waiting import ScoringRules
from stream.services.scores.settings import ScoreSettings
from stream.services.scores.sums import MOST_HORIZONS, MOST_MODELS, OTHER, Sums
from stream.wire import MAX_ENTITY_ID_CHARS, MEASURED, Drift, Outcome, Score, loads_forecast

SETTINGS = ScoreSettings()
METADATA_BYTES = 4_096  # a broker's offset.metadata.max.bytes, as it is shipped


def start(committed: tuple[int, str] | None, log: Log) -> Start:
    stored, seen = (None, Seen()) if committed is None else (committed[0], read_seen(committed[1]))
    return start_of(stored, seen, log)


@pytest.mark.parametrize(("seed", "entities", "handovers"), [(11, 40, 12), (103, 6, 40)])
def test_members_that_follow_each_other_publish_what_one_alone_does_drifts_too(
    seed: int, entities: int, handovers: int
) -> None:
    log = records(seed, entities=entities, minutes=240)
    whole = Owned(PARTITION, SETTINGS, None, None)
    expected = whole.fold(rows(log, 0, len(log)))
    rng = random.Random(5)
    cuts = [0, *sorted(rng.sample(range(1, len(log)), handovers)), len(log)]
    committed: tuple[int, str] | None = None
    found: list[Decided] = []
    clock = whole.scorer.clock
    for low, high in pairwise(cuts):
        owned = Owned.take_over(PARTITION, SETTINGS, committed, start(committed, Log(0, len(log))))
        assert owned.is_ready == (low in (0, owned.begin))
        begin = owned.begin or 0
        if begin < low:
            assert owned.fold(rows(log, begin, low)) == []
        assert low == 0 or owned.scorer.clock == clock
        found += owned.fold(rows(log, low, high))
        clock = owned.scorer.clock
        assert owned.is_ready
        committed = high, owned.metadata(high, Seen(high))
        assert len(committed[1].encode()) < METADATA_BYTES
    assert found == expected
    assert committed is not None
    kept = msgspec.json.decode(committed[1], type=CommitMetadata)
    assert whole._watches is not None
    assert kept.watches == whole._watches.states()
    assert entities < 40 or kept.watches[0].usual is not None, "long enough that there is something to lose"


def test_the_longest_metadata_fits() -> None:
    full = State((63, -1234.5678901234567), [-0.12345678901234567] * (REFERENCE - 1), None, None)
    mark = Mark(2**62, 2**52, "\U0001f68d" * MAX_ENTITY_ID_CHARS, 2**52)
    seen = Seen(2**62, History("0" * 32, 2**31)).text
    assert len(msgspec.json.encode(CommitMetadata(1, 900.0, mark, [full] * len(MEASURED), seen))) < METADATA_BYTES


@pytest.mark.parametrize(
    "metadata", ["", "epoch=3;topic_id=5f0e", '{"version":0,"longest_s":900.0,"since":[1,2,"a",3]}', '{"version":1}']
)
def test_metadata_that_is_not_ours_is_told_and_nothing_published_again(
    metadata: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        owned = Owned.take_over(PARTITION, SETTINGS, (500, metadata), start((500, metadata), Log(0, 1_000)))
    assert (owned.begin, owned.answered) == (500, 500)
    assert "does not say what waited" in caplog.text


def test_other_rules_begin_without_what_waited() -> None:
    log = records(1, minutes=60)
    owned = Owned(PARTITION, SETTINGS, None, None)
    owned.fold(rows(log, 0, len(log)))
    committed = len(log), owned.metadata(len(log), Seen(len(log)))
    on = start(committed, Log(0, len(log)))
    assert (Owned.take_over(PARTITION, SETTINGS, committed, on).begin or 0) < len(log)
    longer = ScoreSettings(rules=ScoringRules(1_800.0))
    assert Owned.take_over(PARTITION, longer, committed, on).begin == len(log)


def test_another_log_is_scored_anew() -> None:
    owned = Owned.take_over(PARTITION, SETTINGS, (500, ""), start((500, ""), Log(0, 100)))
    assert (owned.begin, owned.answered) == (None, None)
    history = History("first", 2)
    made_anew = Log(0, 1_000, "second", kept=1_000)
    committed = 500, Owned(PARTITION, SETTINGS, None, None).metadata(500, Seen(500, history))
    owned = Owned.take_over(PARTITION, SETTINGS, committed, start(committed, made_anew))
    assert (owned.begin, owned.answered) == (None, None)


@pytest.mark.parametrize("lost", [0.9, 0.02], ids=["nothing that waited is left", "some of what waited is left"])
def test_after_a_cut_new_records_are_scored_with_what_is_left_of_what_waited(lost: float) -> None:
    """New records at offsets that were read were taken for read ones: nothing was published of them."""
    log = records(3, entities=6, minutes=240)
    stored = int(len(log) * 0.8)
    cut = int(stored * (1 - lost))
    before = Owned(PARTITION, SETTINGS, None, None)
    before.fold(rows(log, 0, stored))
    committed = stored, before.metadata(stored, Seen(stored, History("t", 1)))
    owned = Owned.take_over(PARTITION, SETTINGS, committed, start(committed, Log(0, len(log), "t", cut, 1, 2)))
    since = msgspec.json.decode(committed[1], type=CommitMetadata).since.offset
    assert (since > cut) == (lost > 0.5)
    assert (owned.begin, owned.answered) == (min(since, cut), cut)
    whole = Owned(PARTITION, SETTINGS, None, None)
    whole.fold(rows(log, 0, cut))
    expected, found = (
        [one.record.forecast_id for one in decided if isinstance(one.record, Score)]
        for decided in (whole.fold(rows(log, cut, len(log))), owned.fold(rows(log, owned.begin or 0, len(log))))
    )
    assert len(found) > 50
    if since < cut:
        assert found == expected
    else:  # those before the cut were scored by the records that are gone
        gone = {loads_forecast(raw).forecast_id for raw in log[:cut]}
        assert set(found) == set(expected) - gone


def test_labels_are_bounded_whatever_comes() -> None:
    sums = Sums()
    for number in range(200):
        sums.add(score(number, f"v{number}", horizons=(Outcome(1.0 + number),)))
    assert len({labels.model for labels in sums.sums}) == MOST_MODELS + 1
    assert len({labels.horizon for labels in sums.sums}) == MOST_HORIZONS + 1
    assert sum(one.scored for one in sums.sums.values()) == 200
    assert sum(one.scored for labels, one in sums.sums.items() if labels.model == OTHER) == 200 - MOST_MODELS


def test_forecasts_that_did_not_claim_to_be_good_are_counted_by_status_alone() -> None:
    sums = Sums()
    for status in ("ok", "warmup", "stale", "fallback_cv"):
        sums.add(score(0, status=status))
    assert sums.statuses == {"ok": 1, "warmup": 1, "stale": 1, "fallback_cv": 1}
    assert {one.scored + one.unscored for one in sums.sums.values()} == {2}
    drift = Drift(
        drift_id="d", measured="skill", topic="t", partition=0, offset=1, anchor_ts=1, before=0.0, after=1.0,
        before_n=64, after_n=64,
    )  # fmt: skip
    sums.add(drift)
    assert sums.drifts == {"skill": 1}
