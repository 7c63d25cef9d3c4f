"""Four experiments: each leads from files to a finding, and its words follow from its numbers either way."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_worlds import LabOf, assert_it_becomes_a_report, fleet

from model.config import ModelConfig
from train.batches.options import BatchOptions
from train.data.corpus import Corpus, load
from train.data.splits import split
from train.experiments.lab import cell_model
from train.experiments.lab.lab import Lab
from train.experiments.questions import masking, patching, regions, transfer
from train.experiments.questions.masking import ALL, NEXT, SHARE, PathScore
from train.experiments.questions.transfer import Against, RegionComparison

TINY = ModelConfig(name="tiny", d=16, blocks=1, heads=2, window=8)


@pytest.fixture
def lab(lab_of: LabOf) -> Lab:
    """A sitting over two of the regions and another file; two steps of each training."""
    places = enumerate({"cabspotting_sf": 37.75, "gotrack_aracaju": -10.9, "buses": 10.0}.items())
    files = {name: fleet(24, 60, name=f"{name}-", seed=100 * n, lat=lat) for n, (name, lat) in places}
    return lab_of(files, effort=0.004, most_anchors=300, config=TINY)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, windows and cells of a size for tests; what an experiment compares stays."""
    shrink: Callable[[BatchOptions], BatchOptions] = lambda o: replace(o, rows=2, tokens=24)  # noqa: E731
    monkeypatch.setattr(transfer, "TRAVELLING", shrink(transfer.TRAVELLING))
    monkeypatch.setattr(transfer, "SETTLED", shrink(transfer.SETTLED))
    monkeypatch.setattr(masking, "WAYS", {way: shrink(options) for way, options in masking.WAYS.items()})
    monkeypatch.setattr(regions, "MOTION", shrink(regions.MOTION))
    for module in (regions, cell_model):
        monkeypatch.setattr(module, "PLACED", shrink(cell_model.PLACED))
    monkeypatch.setattr(patching, "BATCH", shrink(patching.BATCH))
    constants = {transfer: ("MOST_ANCHORS",), masking: ("MOST_GAPS", "MOST_PATHS")}
    constants |= {regions: ("MOST_ANCHORS",), patching: ("MOST_ANCHORS",)}
    for module, names in constants.items():
        for name in names:
            monkeypatch.setattr(module, name, 40)
    monkeypatch.setattr(patching, "TOKENS", 24)
    monkeypatch.setattr(regions, "RESOLUTIONS", (6, 7))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transfer", "masking", "regions", "patching"])
@pytest.mark.usefixtures("small")
def test_an_experiment_leads_from_files_to_a_report(name: str, lab: Lab, tmp_path: Path) -> None:
    finding = importlib.import_module(f"train.experiments.questions.{name}").run(lab)
    assert_it_becomes_a_report(finding, name, tmp_path)


@pytest.mark.usefixtures("small")
def test_transfer_trains_on_all_other_files_and_on_towns_that_are_nowhere(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those all entities, whose places are made up: none is shown, as `pathcast train --invented` shows none."""
    seen: list[set[str]] = []

    def train(*given: Any, train: Corpus, batch: BatchOptions, **more: Any) -> Any:
        seen.append({train.files[file] for file in np.unique(train.file)})
        assert batch.invented == ("towns.parquet",)
        towns = np.unique(train.entity[train.of_files(batch.invented)])
        assert len(towns) == train.file_entities[train.files.index("towns.parquet")]
        return real(*given, train=train, batch=batch, **more)

    real = Lab.train
    monkeypatch.setattr(Lab, "train", train)
    transfer.run(lab)
    files = {file.name for file in lab.data} | {"towns.parquet"}
    assert seen == [files - {left_out} for left_out in transfer.find_regions(lab) for _ in ("normalised", "absolute")]


def test_no_experiment_reads_the_final_split(lab_of: LabOf) -> None:
    """Not even where it judges a file as a whole: what is learned from it leads to choices."""
    lab = lab_of({"cars": fleet(60, 60)})
    final = split(load(lab.data, lab.cache)).final
    held = {final.names[entity] for entity in final.entity}
    assert held
    whole = lab.sample("cars.parquet", "all").corpus
    assert not held & {whole.names[entity] for entity in whole.entity}
    assert len(whole) == 60 - len(held)
    assert len(lab.splits().final) == 0


def test_what_is_left_out_is_not_in_the_training(lab: Lab) -> None:
    parts = lab.splits(without=["buses.parquet"])
    whole = lab.splits()
    left = {parts.train.files[file] for file in parts.train.file}
    assert left == {"cabspotting_sf.parquet", "gotrack_aracaju.parquet"}
    assert 0 < len(parts.train) < len(whole.train)
    assert len(lab.splits(invented=["buses.parquet"]).train) > len(whole.train)
    assert parts.train.fingerprint == whole.train.fingerprint  # one cache for all


def compared(share: float, absolute: float, horizon: str = "300", region: str = "Austin") -> RegionComparison:
    """Of a physics of 100 m; what lies halfway is a tenth nearer than the normalised model."""

    def against(share: float) -> Against:
        return Against(100.0 * share, 100.0 * share - 115.0, 100.0 * share - 85.0)

    models = {"normalised": against(share), "halfway": against(share - 0.1), "absolute": against(absolute)}
    return RegionComparison(region, horizon, 50, 300.0, "stay", 100.0, models, 0.9)


def test_transfer_says_where_the_model_travels_and_where_it_does_not() -> None:
    good = [compared(0.8, 1.2, horizon) for horizon in ("60", "300", "900")]
    text = transfer.conclude([compared(3.0, 9.0, "next"), *good])
    assert "At 60, 300 and 900 s the normalised model beats the best physics in each of 1 regions" in text
    assert (
        "At the next ping the normalised model is surely farther off than the best physics in Austin (+200.0 %)."
        in text
    )
    assert "surely farther off than the best physics nowhere" in transfer.conclude([compared(1.1, 1.0, "next"), *good])
    assert (
        "by at least 20.0 % (Austin, 60 s), surely nearer, by the 95 % interval of the difference, in 3 of 3 cases"
        in text
    )
    assert "by at least 30.0 % (Austin, 60 s)" in text
    assert "Absolute coordinates travel worse. " in text
    assert "by +50.0 % (60 s), +50.0 % (300 s), +50.0 % (900 s)" in text
    assert "larger in 3 of 3 cases, and below the physics' in 0" in text
    bad = transfer.conclude([*good[:1], compared(0.9, 1.0), compared(1.05, 1.0, "900", "Beijing")])
    assert "the normalised model misses the best physics in Beijing at 900 s (+5.0 %) and is surely" in bad
    assert "of the difference, in 1 of 3 cases" in bad
    assert "shrunk halfway to damped velocity it beats the best physics in each of 2 regions" in bad
    assert "by at least 5.0 % (Beijing, 900 s)" in bad
    assert "Absolute coordinates travel better. " in transfer.conclude([compared(0.8, 0.7)])


def test_transfer_gives_no_verdict_on_coordinates_where_horizons_disagree() -> None:
    """Once it was "better": 0.6 % on average, of 1.4 % more at one horizon, in all regions, and less at the others."""
    near, middle, far = compared(0.8, 0.811, "60"), compared(0.8, 0.799), compared(0.8, 0.77, "900", "Beijing")
    text = transfer.conclude([near, middle, far])
    assert "travel better depends on how far ahead" in text
    assert "they are worse at 60 s, neither better nor worse at 300 s, better at 900 s. " in text
    assert "by +1.4 % (60 s), -0.1 % (300 s), -3.7 % (900 s)" in text
    assert "larger in 1 of 3 cases" in text
    assert "travel neither better nor worse. " in transfer.conclude([middle])


def test_transfer_needs_a_region_and_something_beside_it(lab: Lab) -> None:
    with pytest.raises(ValueError, match="transfer needs two files"):
        transfer.find_regions(replace(lab, data=lab.data[:1]))
    with pytest.raises(ValueError, match="transfer needs two files"):
        transfer.find_regions(replace(lab, data=lab.data[2:]))


def masked(way: str, fill: float, path: float, ahead: float) -> masking.MaskingScore:
    fills = {"120": {"model": {"mean_m": 100 * fill}, "hermite": {"mean_m": 100.0}}}
    return masking.MaskingScore(way, "cars", fills, PathScore(3, 9, path, 1.0), {"60": ahead})


def test_masking_names_the_best_training_and_its_price() -> None:
    rows = [masked(NEXT, 1.0, 1.0, 100.0), masked(SHARE, 0.9, 0.95, 102.0), masked(ALL, 0.8, 0.9, 103.0)]
    text = masking.conclude(rows)
    assert f"found best after {ALL} (of the Hermite curve's error on average 1.000 after {NEXT}, 0.900 after" in text
    assert f"paths from two ends are inferred best after {ALL} (of a straight line's error 1.000 after" in text
    assert f"errors of forecasts change by +2.0 % after {SHARE}, +3.0 % after {ALL}" in text
    rows = [masked(NEXT, 1.0, 1.0, 100.0), masked(SHARE, 0.9, 0.95, 99.0), masked(ALL, 1.1, 0.9, 103.0)]
    text = masking.conclude(rows)
    assert f"found best after {SHARE} (" in text
    assert f"inferred best after {ALL} (" in text
    assert f"errors of forecasts change by -1.0 % after {SHARE}" in text


def test_masking_calls_no_training_best_that_is_not_told_from_another() -> None:
    """It once named winners at 0.918 against 0.923, and at 0.99937 against 0.99959 of a straight line's error."""
    text = masking.conclude([masked(way, 0.9, 0.9, 100.0) for way in (NEXT, SHARE, ALL)])
    assert "best" not in text
    assert text.count("no better after any training than after another") == 2
    rows = [masked(NEXT, 1.0, 1.0, 1.0), masked(SHARE, 0.923, 0.9996, 1.0), masked(ALL, 0.918, 0.9994, 1.0)]
    text = masking.conclude(rows)
    assert f"found best after {ALL}, and as well after {SHARE} (" in text
    assert "no training infers paths from two ends better than a straight line" in text


def test_masking_trains_with_each_mask_by_itself_and_with_all() -> None:
    """One option apart from the next step, so that a difference is of what is hidden; six answers are told briefly."""
    alone = {way: options for way, options in masking.WAYS.items() if way != ALL}
    assert [options.masks for options in alone.values()][1:] == [("share",), ("point",), ("feature",), ("key-point",)]
    for options in list(alone.values())[1:]:
        assert replace(options, masks=("segment",), forced=0.0) == alone[NEXT]
    rows = [masked(way, 0.9 if way in (SHARE, ALL, masking.KEY) else 1.0, 1.0, 100.0) for way in masking.WAYS]
    text = masking.conclude(rows)
    assert f"found best after {SHARE}, and as well after {masking.KEY} and {ALL} (" in text
    assert "+0.0 % after 15 % of features" in text


def region(name: str, metres: float, top: float, parameters: int) -> regions.ModelScore:
    four = (metres, 2 * metres, 3 * metres, 4 * metres)
    return regions.ModelScore(name, four, (top,) * 4, (0.9,) * 4, parameters)


def test_regions_say_who_is_nearer_at_which_horizon() -> None:
    metres, cells = region("continuous", 100, 0.1, 1000), region("H3 resolution 8, median", 150, 0.2, 3000)
    text = regions.conclude([region("damped velocity", 90, 0.1, 0), metres, cells])
    assert "Continuous coordinates are nearer at every horizon" in text
    assert "1.50 (next)" in text
    assert "3.0 times the parameters" in text
    assert "of them, H3 resolution 8, median, names the right cell in 20.0 % of the cases" in text
    assert "in the right one of resolution 8 in 10.0 %" in text
    assert "Regions are nearer at every horizon" in regions.conclude([metres, region("H3, median", 50, 0.0, 3000)])
    mixed = replace(cells, mean_m=(150, 150, 150, 150))
    assert "nearer at next, regions at 60 s, 300 s, 900 s" in regions.conclude([metres, mixed])


def test_a_horizon_that_no_track_reaches_is_not_compared() -> None:
    rows = [region("continuous", 100, 0.1, 1000), region("H3, median", 50, 0.2, 3000)]
    short = [replace(row, mean_m=(*row.mean_m[:3], np.nan)) for row in rows]
    text = regions.conclude(short)
    assert text.startswith("Regions are nearer at every horizon: the best discrete error is 0.50 (next), 0.50 (60 s),")
    assert "at 300 s the best of them, H3, median, names the right cell in 20.0 %" in text
    assert regions._errors(short).rows[0][-1] is None
    slow = [replace(patched(patch, 100), ahead_m=(100.0, np.nan, 90.0 + patch)) for patch in (1, 8)]
    text = patching.conclude(slow)
    assert "Forecasts change by +0.0 % (next), +7.7 % (300 s), so already 8 pings per token cost up to 7.7 %" in text
    assert patching._table(slow).rows[0][2] is None
    assert "nan" not in text


def patched(patch: int, metres: float) -> patching.PatchScore:
    return patching.PatchScore(patch, (metres,) * 3, 2.0 * patch, 80.0 / patch, 256 / patch, 1.0)


def test_patching_says_what_is_free() -> None:
    cheap = patching.conclude([patched(1, 100), patched(2, 101), patched(4, 101.5), patched(8, 140)])
    assert "a patch of 4 is free for forecasts" in cheap
    assert "8.0 times as cheap" in cheap
    assert "+40.0 % (60 s)" in cheap
    assert "already 2 pings per token cost up to 30.0 %" in patching.conclude([patched(1, 100), patched(2, 130)])
