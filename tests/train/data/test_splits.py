"""No entity, no time and no ping is on both sides of a split, and what the demo replays is in no training."""

from __future__ import annotations

from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from train_worlds import MakeCorpus, WriteFile, fleet, together, track, wander

from train.data.corpus import Corpus, load
from train.data.cutting import EVALUATION, TRAINING, Cut
from train.data.splits import DAY_MS, Holdout, late_from_ms, split

NOBODY = Holdout(-90, -180, 90, 180, frozenset(), ())
SAMPLE = Path(str(files("stream.demo"))) / "sample" / "austin_buses.csv.gz"
HISTORY = SAMPLE.with_name("austin_day.csv.gz")


def by_turns(make_corpus: MakeCorpus, vehicles: int, *, cut: Cut = TRAINING) -> Corpus:
    """Vehicles that start at different times, so that the cutoff goes through some and misses others."""
    tracks = [wander(f"v{i}", 60, i, start_ms=1_211_018_404_000 + 600_000 * (i % 7)) for i in range(vehicles)]
    return make_corpus(together(*tracks), cut=cut)


def rows(corpus: Corpus) -> set[int]:
    return {row for first, last in corpus.tracks for row in range(first, last)}


def names(corpus: Corpus) -> set[str]:
    return {corpus.names[i] for i in corpus.entity}


@pytest.mark.parametrize("vehicles", [4, 60])
def test_no_ping_is_in_two_splits_and_hardly_one_in_none(make_corpus: MakeCorpus, vehicles: int) -> None:
    corpus = by_turns(make_corpus, vehicles)
    splits = split(corpus, NOBODY)
    parts = (*splits[:3], splits.final)
    assert [len(part) > 0 for part in parts] == [True, True, True, vehicles >= 10]
    for one, other in combinations(parts, 2):
        assert not rows(one) & rows(other)
    # A cut may leave a piece of a single ping, which is no track: at most two per cut and track.
    assert len(rows(corpus)) - sum(len(rows(part)) for part in parts) <= 4 * vehicles


def test_entities_of_validation_are_never_trained_on(make_corpus: MakeCorpus) -> None:
    splits = split(by_turns(make_corpus, 60), NOBODY)
    assert not names(splits.train) & names(splits.val)
    assert names(splits.test) - names(splits.train) - names(splits.val) - names(splits.final)  # the test's alone


def test_the_final_split_is_of_entities_of_its_own(make_corpus: MakeCorpus) -> None:
    """Until now they were validated with; so no weights of before were trained on them, and the test is as it was."""
    corpus = by_turns(make_corpus, 60)
    splits = split(corpus, NOBODY)
    final = {"v12", "v28", "v29", "v36", "v38", "v42"}
    assert names(splits.final) == final
    assert not final & (names(splits.train) | names(splits.val))
    cutoff_ms = np.quantile(corpus.ts_ms, 0.9)
    late = [
        first for first, e in zip(splits.test.tracks[:, 0], splits.test.entity, strict=True) if corpus.names[e] in final
    ]
    assert late
    assert min(corpus.ts_ms[late]) >= cutoff_ms, "of these entities the test has what is late alone"
    assert splits.fingerprint != split(corpus, Holdout(-90, -180, 90, 180, frozenset(final), ())).fingerprint


def test_what_the_demo_shows_is_in_no_final_split(make_corpus: MakeCorpus) -> None:
    held = Holdout(-90, -180, 90, 180, frozenset({"v12"}), ())
    splits = split(by_turns(make_corpus, 60), held)
    assert "v12" in names(splits.test) - names(splits.final)
    assert names(splits.final) == {"v28", "v29", "v36", "v38", "v42"}


def test_what_is_elsewhere_under_another_id_is_in_no_final_split(make_corpus: MakeCorpus) -> None:
    tracks = {f"v{i}": wander(f"v{i}", 60, i) for i in range(60)}
    alone = split(make_corpus(together(*tracks.values())), NOBODY)
    held = min(names(alone.final))
    for kind in ("train", "val", "test"):
        one = min(names(getattr(alone, kind)) - (names(alone.train) if kind == "test" else set()) - names(alone.final))
        twice = tracks | {held: tracks[one] | {"entity_id": tracks[held]["entity_id"]}}
        copied = split(make_corpus(together(*twice.values()), name=f"{kind}.parquet"), NOBODY)
        assert held not in names(copied.final)
        assert names(copied.final) == names(alone.final) - {held}


def test_nothing_trained_on_is_as_late_as_the_tests_seen_entities(make_corpus: MakeCorpus) -> None:
    corpus = by_turns(make_corpus, 60)
    splits = split(corpus, NOBODY)
    cutoff_ms = np.quantile(corpus.ts_ms, 0.9)
    assert max(corpus.ts_ms[list(rows(splits.train) | rows(splits.val))]) < cutoff_ms
    seen = [
        t for t, e in zip(splits.test.tracks, splits.test.entity, strict=True) if corpus.names[e] in names(splits.train)
    ]
    assert seen
    assert min(corpus.ts_ms[first] for first, _ in seen) >= cutoff_ms


def test_a_few_entities_are_split_by_time_alone(make_corpus: MakeCorpus) -> None:
    corpus = by_turns(make_corpus, 4)
    train, val, test, *_ = split(corpus, NOBODY)
    assert names(train) == {"v0", "v1", "v2", "v3"}
    last_trained, first_val = max(corpus.ts_ms[list(rows(train))]), min(corpus.ts_ms[list(rows(val))])
    assert last_trained < first_val
    assert max(corpus.ts_ms[list(rows(val))]) < min(corpus.ts_ms[list(rows(test))])


def test_a_file_is_split_alike_alone_and_beside_others(write_file: WriteFile, tmp_path: Path) -> None:
    """Weights that were trained on several files are judged and calibrated on them one by one: 6 vehicles are few, and
    are split by time, beside 60 others, too."""
    many, few = fleet(60, 60), [wander(f"w{i}", 60, 100 + i) for i in range(6)]
    paths = [write_file(many, "many.parquet"), write_file(together(*few), "few.parquet")]
    beside = split(load(paths, tmp_path / "cache"), NOBODY)
    for path in paths:
        for part, of_both in zip(split(load([path], tmp_path / "cache"), NOBODY)[:3], beside[:3], strict=True):
            assert told(part) == told(of_both.select(of_both.of_files([path.name])))
    assert names(beside.train) >= {f"w{i}" for i in range(6)}


def test_from_ten_entities_on_a_file_is_split_by_entity(make_corpus: MakeCorpus) -> None:
    for vehicles in (9, 10):
        train = split(make_corpus(fleet(vehicles, 60)), NOBODY).train
        assert (len(names(train)) == vehicles) == (vehicles < 10)


def test_an_entity_counts_with_a_track_or_without(write_file: WriteFile, tmp_path: Path) -> None:
    """Of 12 vehicles 4 report too seldom for a track to be judged: the file is split by vehicle under both cuts, as it
    would not be if the 8 were counted that the evaluation sees."""
    tracks = [wander(f"v{i}", 60, i) for i in range(8)]
    path = write_file(together(*tracks, *(wander(f"v{i}", 5, i) for i in range(8, 12))))
    trained, judged = (split(load([path], tmp_path / "cache", cut=cut), NOBODY) for cut in (TRAINING, EVALUATION))
    assert {name for part in judged[:3] for name in names(part)} == {f"v{i}" for i in range(8)}
    assert 0 < len(names(judged.train)) < 8  # by time it would be all of them
    assert names(judged.train) <= names(trained.train)
    assert not names(judged.val) & names(trained.train)


def test_no_source_is_tested_on_what_another_of_the_same_vehicles_trains(write_file: WriteFile, tmp_path: Path) -> None:
    """An older excerpt beside the whole: its newest tenth, which it is tested on, lies in the middle of the whole."""
    whole = [wander(f"v{i}", 200, i) for i in range(60)]
    older = [{name: column[:100] for name, column in one.items()} for one in whole]
    paths = [write_file(together(*whole), "whole.parquet"), write_file(together(*older), "older.parquet")]
    both = split(load(paths, tmp_path / "cache"), NOBODY)
    alone = split(load(paths[1:], tmp_path / "cache"), NOBODY)
    assert moments(alone.test)
    assert not moments(alone.test) & (moments(both.train) | moments(both.val))
    assert moments(both.train)


def test_a_few_vehicles_of_another_source_are_held_out_as_they_are_there(write_file: WriteFile, tmp_path: Path) -> None:
    """Two of the whole's vehicles in a file of their own, which time alone would split: those that the hash keeps from
    the whole's training would be trained on by their other name."""
    whole = {f"v{i}": wander(f"v{i}", 200, i) for i in range(60)}
    path = write_file(together(*whole.values()), "whole.parquet")
    alone = split(load([path], tmp_path / "cache"), NOBODY)
    held = sorted(names(alone.test) - names(alone.train) - names(alone.val) - names(alone.final))
    for kind, few in (("held", held[:2]), ("validated", sorted(names(alone.val))[:2])):
        other = write_file(together(*(whole[name] for name in few)), f"{kind}.parquet")
        both = split(load([path, other], tmp_path / "cache"), NOBODY)
        assert not names(both.train) & set(few)
        assert not moments(alone.test) & (moments(both.train) | moments(both.val))
    later = [wander(name, 200, 7, start_ms=1_211_018_404_000 + 365 * DAY_MS) for name in held[:2]]
    other = write_file(together(*later), "later.parquet")
    both = split(load([path, other], tmp_path / "cache"), NOBODY)
    assert names(both.train) >= set(held[:2])  # another year's vehicles of these numbers are nobody's test


def test_a_source_that_tests_nothing_of_a_vehicle_cuts_nothing_of_it_elsewhere(
    write_file: WriteFile, tmp_path: Path
) -> None:
    """The other source saw these vehicles for ten minutes, long before its own newest tenth."""
    whole = [wander(f"v{i}", 200, i) for i in range(20)]
    glimpses = [{name: column[:20] for name, column in one.items()} for one in whole]
    paths = [
        write_file(together(*whole), "whole.parquet"),
        write_file(together(*glimpses, *(wander(f"w{i}", 100, i) for i in range(20))), "other.parquet"),
    ]
    both, alone = split(load(paths, tmp_path / "cache"), NOBODY), split(load(paths[:1], tmp_path / "cache"), NOBODY)
    assert told(both.train.select(both.train.of_files(["whole.parquet"]))) == told(alone.train)


def test_vehicles_of_one_id_at_different_times_leave_each_others_training_alone(
    write_file: WriteFile, tmp_path: Path
) -> None:
    """Sources number their vehicles from 1: what was recorded after another source had ended is no part of its test."""
    year_ms = 365 * DAY_MS
    old = together(*(wander(f"{i}", 60, i, start_ms=1_211_018_404_000) for i in range(60)))
    new = together(*(wander(f"{i}", 60, i, start_ms=1_211_018_404_000 + year_ms) for i in range(60)))
    paths = [write_file(old, "old.parquet"), write_file(new, "new.parquet")]
    both = split(load(paths, tmp_path / "cache"), NOBODY)
    for path in paths:
        alone = split(load([path], tmp_path / "cache"), NOBODY)
        assert told(alone.train) == told(both.train.select(both.train.of_files([path.name])))


def test_invented_tracks_all_train_and_none_is_judged(write_file: WriteFile, tmp_path: Path) -> None:
    real = fleet(60, 60)
    paths = [write_file(real, "real.parquet"), write_file(real, "towns.parquet")]  # ids and times as in the real one
    corpus = load(paths, tmp_path / "cache")
    train, val, test, _, _, final = split(corpus, NOBODY, invented=["towns.parquet"])
    assert [part.of_files(["towns.parquet"]).sum() for part in (train, val, test, final)] == [60, 0, 0, 0]
    for part, alone in zip((train, val, test), split(load(paths[:1], tmp_path / "cache"), NOBODY)[:3], strict=True):
        assert told(part.select(part.of_files(["real.parquet"]))) == told(alone)


def test_what_was_recorded_under_two_ids_is_not_tested_on_where_it_trains(make_corpus: MakeCorpus) -> None:
    """GoTrack Aracaju has three trips twice, GeoLife a person twice: the hash put one of each pair into training and
    the other into the test, where the model knew a tenth of Aracaju's pings by heart."""
    tracks = {f"v{i}": wander(f"v{i}", 60, i) for i in range(60)}
    alone = split(make_corpus(together(*tracks.values())), NOBODY)
    held = min(names(alone.test) - names(alone.train) - names(alone.val) - names(alone.final))
    for kind, one in (("trained", min(names(alone.train))), ("validated", min(names(alone.val)))):
        twice = tracks | {held: tracks[one] | {"entity_id": tracks[held]["entity_id"]}}
        copied = split(make_corpus(together(*twice.values()), name=f"{kind}.parquet"), NOBODY)
        assert names(copied.copies) == {held}
        assert recorded(copied.copies)
        assert not recorded(copied.test) & (recorded(copied.train) | recorded(copied.val))
        assert [names(part) for part in copied[:2]] == [names(part) for part in alone[:2]]
    assert len(alone.copies) == 0


def moments(corpus: Corpus) -> set[tuple[str, int]]:
    """Whose pings, and when."""
    ends = zip(corpus.tracks, corpus.entity, strict=True)
    return {(corpus.names[entity], int(ts)) for (first, last), entity in ends for ts in corpus.ts_ms[first:last]}


def recorded(corpus: Corpus) -> set[tuple[int, float, float]]:
    """When something was where, whoever it was."""
    return {(int(corpus.ts_ms[row]), float(corpus.lat[row]), float(corpus.lon[row])) for row in rows(corpus)}


def told(corpus: Corpus) -> set[tuple[str, int, int]]:
    """Whose tracks from when to when."""
    return {
        (corpus.names[entity], int(corpus.ts_ms[first]), int(corpus.ts_ms[last - 1]))
        for (first, last), entity in zip(corpus.tracks, corpus.entity, strict=True)
    }


def test_both_cuts_of_a_file_are_split_alike(make_corpus: MakeCorpus) -> None:
    trained = split(by_turns(make_corpus, 60, cut=TRAINING), NOBODY)
    judged = split(by_turns(make_corpus, 60, cut=EVALUATION), NOBODY)
    assert rows(judged.test)
    assert not rows(judged.test) & (rows(trained.train) | rows(trained.val))


def test_a_split_is_the_same_every_time_and_its_fingerprint_says_so(make_corpus: MakeCorpus) -> None:
    corpus = by_turns(make_corpus, 60)
    one, again = split(corpus, NOBODY), split(corpus, NOBODY)
    assert one.fingerprint == again.fingerprint
    np.testing.assert_array_equal(one.test.tracks, again.test.tracks)
    assert split(by_turns(make_corpus, 61), NOBODY).fingerprint != one.fingerprint
    held = Holdout(-90, -180, 90, 180, frozenset(names(one.train)), ())
    assert split(corpus, held).fingerprint != one.fingerprint


def test_more_vehicles_move_nobody_to_another_column(make_corpus: MakeCorpus) -> None:
    few, many = split(by_turns(make_corpus, 30), NOBODY), split(by_turns(make_corpus, 60), NOBODY)
    first_thirty = {f"v{i}" for i in range(30)}
    assert names(few.train) == names(many.train) & first_thirty
    assert names(few.val) == names(many.val) & first_thirty


def test_nobody_s_column_ever_changes(make_corpus: MakeCorpus) -> None:
    """Bundled weights are judged on what their training left out: by another hash they would be judged on what they
    were trained on, and nothing else would tell."""
    splits = split(by_turns(make_corpus, 60), NOBODY)
    assert names(splits.val) == {f"v{i}" for i in (15, 24)}
    assert names(splits.final) == {f"v{i}" for i in (12, 28, 29, 36, 38, 42)}
    assert names(splits.test) - names(splits.train) - names(splits.val) - names(splits.final) == {
        f"v{i}" for i in (0, 3, 13, 21, 27, 50, 52, 59)
    }


def _sample() -> Any:
    names = pyarrow.csv.ConvertOptions(column_types={"entity_id": pyarrow.string()})
    return pyarrow.csv.read_csv(SAMPLE, convert_options=names)


def test_the_samples_vehicles_and_days_are_all_in_the_holdout() -> None:
    table, holdout = _sample(), Holdout.bundled()
    assert set(table["entity_id"].to_pylist()) == holdout.vehicles
    assert {t // DAY_MS * DAY_MS for t in table["t"].to_pylist()} == set(holdout.days_ms)
    lat, lon = table["lat"].to_numpy(), table["lon"].to_numpy()
    assert holdout.south_deg < lat.min() <= lat.max() < holdout.north_deg
    assert holdout.west_deg < lon.min() <= lon.max() < holdout.east_deg


def test_training_on_data_that_contains_the_sample_leaves_it_out(make_corpus: MakeCorpus) -> None:
    """Chance cannot hide a leak: a held-out vehicle on another day, and 20 other vehicles on the held-out day."""
    holdout = Holdout.bundled()
    day_ms, austin = holdout.days_ms[0], {"lat": 30.27, "lon": -97.74}
    bus = sorted(holdout.vehicles)[0]
    others = [f"other-{i}" for i in range(20)]
    tracks = [wander(bus, 40, 1, start_ms=day_ms - 5 * DAY_MS, **austin)]
    for i, other in enumerate(others):
        tracks.append(wander(other, 40, i, start_ms=day_ms - 3 * DAY_MS, **austin))
        tracks.append(wander(other, 40, i, start_ms=day_ms + 7 * 3_600_000, **austin))
        tracks.append(wander(other, 40, i, start_ms=day_ms - 600_000, **austin))  # into the day over midnight
    # so that the newest tenth, which is never trained on, is not the held-out day
    tracks += [wander(f"later-{i}", 40, i, start_ms=day_ms + 9 * DAY_MS, **austin) for i in range(30)]
    corpus = make_corpus(together(*tracks))
    naive, splits = split(corpus, NOBODY), split(corpus)
    assert rows(naive.train) & rows(corpus.select(holdout.touches(corpus)))  # without the rule it would leak
    for part in (splits.train, splits.val):
        assert bus not in names(part)
        assert not any(
            corpus.ts_ms[first] < day_ms + DAY_MS and corpus.ts_ms[last - 1] >= day_ms for first, last in part.tracks
        )
    assert names(splits.train) & set(others)  # on other days they are used


def test_a_held_out_vehicle_s_track_is_not_trained_on_though_it_leaves_the_region(make_corpus: MakeCorpus) -> None:
    bus = sorted(Holdout.bundled().vehicles)[0]
    north_m = [1_500.0 * i for i in range(60)]  # over the border well before the cutoff
    away = track(bus, [60.0 * i for i in range(60)], [0.0] * 60, north_m, lat=30.6, lon=-97.74)
    corpus = make_corpus(together(away, wander("a", 40, 1), wander("b", 40, 2)))
    assert bus in names(split(corpus, NOBODY).train)
    assert bus not in names(split(corpus).train)


def test_another_citys_vehicle_of_the_same_number_is_used(make_corpus: MakeCorpus) -> None:
    bus = sorted(Holdout.bundled().vehicles)[0]
    corpus = make_corpus(together(*(wander(name, 40, 1) for name in (bus, "a", "b"))))  # in San Francisco
    assert bus in names(split(corpus).train)


def test_the_sample_itself_is_all_test(tmp_path: Path) -> None:
    corpus = load([SAMPLE], tmp_path)
    splits = split(corpus)
    assert len(splits.train) == len(splits.val) == 0
    assert names(splits.test) == Holdout.bundled().vehicles


def test_the_sample_is_small_busy_and_has_silences_to_fill(tmp_path: Path) -> None:
    assert SAMPLE.stat().st_size < 500_000
    assert "CapMetro" in (SAMPLE.parent / "README.md").read_text(encoding="utf-8")
    corpus = load([SAMPLE], tmp_path, cut=Cut(gap_s=3600.0))
    assert 30 <= len(names(corpus)) <= 40
    silences = 0
    for first, last in corpus.tracks:
        dt_s = np.diff(corpus.ts_ms[first:last]) / 1000
        silences += int((dt_s > max(60.0, 3 * float(np.median(dt_s)))).sum())
    assert silences >= 5


def test_a_track_over_the_cutoff_is_cut_there(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(track("only", [10.0 * i for i in range(100)], [50.0 * i for i in range(100)]))
    train, val, test, *_ = split(corpus, NOBODY)
    assert [part.tracks.tolist() for part in (train, val, test)] == [[[0, 80]], [[80, 90]], [[90, 100]]]


def test_a_ping_at_the_cutoff_is_after_it_though_its_track_ends_there(make_corpus: MakeCorpus) -> None:
    a, b = (
        track(name, [10.0 * i for i in times], [50.0 * i for i in times])
        for name, times in (("a", range(9)), ("b", range(9, 11)))
    )
    corpus = make_corpus(together(a, b))  # of eleven pings the ninth is the cutoff
    assert [part.tracks.tolist() for part in split(corpus, NOBODY)[:3]] == [[[0, 8]], [], [[9, 11]]]


def test_the_last_tenth_can_be_so_long_at_least(make_corpus: MakeCorpus) -> None:
    """30 minutes of an hour and a half of pings: a third is the most, so a longer time changes nothing more."""
    corpus = by_turns(make_corpus, 60)
    newest_ms = corpus.ts_ms.max()
    plain, half, day = (late_from_ms(corpus, late_ms)[0] for late_ms in (0, 20 * 60_000, DAY_MS))
    assert day <= half < plain
    assert newest_ms - half == pytest.approx(20 * 60_000, rel=0.05)
    assert newest_ms - day == pytest.approx(np.ptp(corpus.ts_ms) / 3, rel=0.05)
    splits = split(corpus, NOBODY, late_ms=DAY_MS)
    assert splits.train.ts_ms[splits.train.tracks[:, 1] - 1].max() < day
    assert (splits.test.ts_ms[splits.test.tracks[:, 0]] >= day).any()


def test_the_demos_history_is_of_no_entity_of_the_final_split_and_ends_before_the_held_day(tmp_path: Path) -> None:
    """It is looked at every day. The demo's own buses are in it, and in no final split (the rule of the hold-out)."""
    holdout = Holdout.bundled()
    corpus = load([HISTORY], tmp_path)
    assert corpus.ts_ms.max() < min(holdout.days_ms)
    splits = split(corpus)
    assert len(splits.final) == 0
    assert len(names(splits.train)) > 150
    assert holdout.vehicles & names(splits.test)
    assert not holdout.vehicles & names(splits.train)
    assert HISTORY.stat().st_size < 450_000
