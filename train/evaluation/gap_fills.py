"""Evaluates gap fills: pings between two known ones are hidden, and each predictor's positions for them are scored.
Prints nothing.

The protocol: blocks of 30 s, 2, 5 and 15 min are hidden, or each ping with a chance of one half; only hidden pings are
scored. A block is the pings strictly inside one such span: from the ping before it to the first ping at or after its
end. Outside of it, model and smoother use three pings after it and those before it, the model as many as it remembers,
with their reported speed and course, the smoother 32; linear uses only the two ends, Hermite one more step on each
side, or (`hermite_reported`) the reported velocities at the ends, if these steps agree.

Letters: G gaps, M points of a gap, P hidden pings of all gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import ABSENT, Fill, Gap, Moment, Predictor
from model.atlas.published import MIN_VEHICLES
from model.config import ModelConfig
from model.kinematics.baselines import BRIDGES, hermite, kinematics
from model.kinematics.geo import F64, haversine_m, move_deg
from model.kinematics.smoother import rts
from model.serving.gaps import stack
from train.data.anchors import EARLIER_PINGS
from train.data.corpus import Corpus, even_indices
from train.evaluation.atlas import BESIDE, fill_with_atlas
from train.evaluation.forecasts import Sample, compare_with_best, describe_sample, error_en_m
from train.evaluation.metrics import Cases, compare_pairs, energy_score, measure, score
from train.evaluation.rollout import MODEL

Rows = NDArray[np.int64]

BLOCKS_S: Final = (30.0, 120.0, 300.0, 900.0)
HALF: Final = "half"  # the name of the random protocol
FIXES_AFTER: Final = 3  # the gap's end and two more: the inputs of a final fill (stream/wire/messages.py, revisions)
FIXES_BEFORE: Final = 4
FILTER_FIXES: Final = 32  # before the gap: enough for the smoother's filter to settle, which remembers no more
HERMITE_REPORTED: Final = "hermite_reported"
RTS: Final = "rts"
RTS_FITTED: Final = "rts_fitted"
BATCH: Final = 128  # gaps per batch


class HiddenGaps(NamedTuple):
    """G gaps of one protocol."""

    track: Rows  # (G,)
    before: Rows  # (G,) row of the last known ping before the gap
    after: Rows  # (G,) row of the first known ping after it; everything in between is hidden
    known: NDArray[np.bool_]  # (R,) rows known outside of the gap in question


class PreparedGaps(NamedTuple):
    """The gaps of one protocol, and the fixes before them for the smoother."""

    hidden: HiddenGaps
    gaps: list[Gap]
    past: list[NDArray[Any]]  # fixes up to each gap


class GapPositions(NamedTuple):
    """One predictor's Gaussians at the P hidden pings; cov_m2 is None for a point forecast."""

    lat: F64
    lon: F64
    cov_m2: F64 | None


def judge_gap_fills(
    sample: Sample,
    predictor: Predictor | None,
    *,
    smoother: ModelConfig | None = None,
    blocks_s: Sequence[float] = BLOCKS_S,
    most: int | None = None,
    seed: int = 0,
    atlas_ms: int | None = None,
    min_entities: int = MIN_VEHICLES,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Returns scores as plain data for JSON: `blocks.<seconds|half>.<predictor>`; at most `most` gaps per block length.

    `smoother` is the physics of a smoother fitted to the train split; without it there is only the one of default
    noise. With `atlas_ms` and a predictor, BESIDE are its fills as the atlas of the whole file bends them, of
    which there is a new version at each multiple of this time (`snapshots`, which has `min_entities`). A gap asks the
    version of the ping before it: later ones would know the hidden pings.
    """
    corpus = sample.corpus
    cases = {f"{block_s:g}": hide_blocks(corpus, block_s) for block_s in blocks_s}
    cases[HALF] = hide_half(corpus, seed)
    kept = {name: take_evenly(hidden, most) for name, hidden in cases.items() if len(hidden.before)}
    moved: dict[str, GapPositions] = {}
    if predictor is not None and atlas_ms is not None:
        assert sample.fleet is not None  # set by open_samples
        how: dict[str, Any] = {"every_ms": atlas_ms, "min_entities": min_entities}
        moved = fill_with_versions(
            sample.fleet, corpus, kept, predictor, progress=lambda share: progress(share / 2), **how
        )
    blocks: dict[str, Any] = {}
    before = 0.5 if moved else 0.0
    for number, (name, hidden) in enumerate(kept.items(), start=1):
        more = {BESIDE: moved[name]} if name in moved else {}
        blocks[name] = {
            "gaps": len(hidden.before),
            "gaps_in_split": len(cases[name].before),
            **_judge(corpus, hidden, predictor, smoother, more),
        }
        progress(before + (1 - before) * number / len(kept))
    return {**describe_sample(sample), "blocks": blocks}


def hide_blocks(corpus: Corpus, block_s: float) -> HiddenGaps:
    """Returns blocks of one length, each at least 8 pings after the one before, with a known step on both sides."""
    track, before, after = [], [], []
    for index, (first, last) in enumerate(corpus.tracks):
        ts_ms = np.asarray(corpus.ts_ms[first:last])
        # for every ping, the end of a block that begins there
        ends = np.searchsorted(ts_ms, ts_ms + round(1000 * block_s))
        place = EARLIER_PINGS
        while place < len(ts_ms) and ends[place] < len(ts_ms) - 1:
            end = int(ends[place])
            if end - place >= 2:
                track.append(index)
                before.append(first + place)
                after.append(first + end)
            place = end + EARLIER_PINGS if end - place >= 2 else place + 1
    known = np.ones(len(corpus.ts_ms), bool)
    return HiddenGaps(np.array(track, np.int64), np.array(before, np.int64), np.array(after, np.int64), known)


def hide_half(corpus: Corpus, seed: int = 0) -> HiddenGaps:
    """Hides every ping with a chance of one half, except the first 9 and the last 2 of a track."""
    known = np.random.default_rng(seed).random(len(corpus.ts_ms)) < 0.5
    track, before, after = [], [], []
    for index, (first, last) in enumerate(corpus.tracks):
        known[first : first + EARLIER_PINGS + 1] = True
        known[max(first, last - 2) : last] = True
        rows = first + np.flatnonzero(known[first:last])
        gaps = np.flatnonzero(np.diff(rows) > 1)
        track.append(np.full(len(gaps), index, np.int64))
        before.append(rows[gaps])
        after.append(rows[gaps + 1])
    return HiddenGaps(np.concatenate(track), np.concatenate(before), np.concatenate(after), known)


def take_evenly(hidden: HiddenGaps, most: int | None) -> HiddenGaps:
    """Returns at most `most` of the gaps, evenly spaced among all."""
    count = len(hidden.before)
    if most is None or count <= most:
        return hidden
    chosen = even_indices(count, most)
    return HiddenGaps(hidden.track[chosen], hidden.before[chosen], hidden.after[chosen], hidden.known)


def prepare(corpus: Corpus, hidden: HiddenGaps) -> PreparedGaps:
    """Returns the fixes around each gap."""
    count = range(len(hidden.before))
    past = [corpus.fixes(_find_known_before(corpus, hidden, index, FILTER_FIXES)) for index in count]
    return PreparedGaps(hidden, [_gap(corpus, hidden, index) for index in count], past)


def answer_gaps(
    corpus: Corpus, hidden: HiddenGaps, predictor: Predictor | None, smoother: ModelConfig | None = None
) -> dict[str, GapPositions]:
    """Returns every predictor's positions of the hidden pings, gap by gap in the order of their rows."""
    case = prepare(corpus, hidden)
    out = {} if predictor is None else {MODEL: _fill(corpus, hidden, case.gaps, predictor)}
    out |= _bridge(case.gaps)
    out[RTS] = _smooth(case, ModelConfig() if predictor is None else predictor.config)
    if smoother is not None:
        out[RTS_FITTED] = _smooth(case, smoother)
    return out


def smoother_crps(corpus: Corpus, case: PreparedGaps, physics: ModelConfig) -> F64:
    """Returns the CRPS (P,) of the smoother with that noise, in metres."""
    row, start_lat, _ = _hidden_rows(corpus, case.hidden)
    found = _smooth(case, physics)
    assert found.cov_m2 is not None
    error = error_en_m(corpus.lat[row], corpus.lon[row], found.lat, found.lon, start_lat)
    return energy_score(error, found.cov_m2)


def fill_with_versions(
    fleet: Corpus, corpus: Corpus, cases: Mapping[str, HiddenGaps], predictor: Predictor, **how: Any
) -> dict[str, GapPositions]:
    """Returns the model's fills of each case as an atlas of `fleet` bends them; `how` is as in `fill_with_atlas`."""
    gaps = {name: prepare(corpus, hidden).gaps for name, hidden in cases.items()}
    moment = Moment.join([_rebuild_states(corpus, cases[name], some, predictor) for name, some in gaps.items()])
    each = [gap for some in gaps.values() for gap in some]
    fills = fill_with_atlas(fleet, each, moment, predictor, **how)
    stops = np.cumsum([len(some) for some in gaps.values()]).tolist()
    return {name: _join_fills(fills[stop - len(gaps[name]) : stop]) for name, stop in zip(gaps, stops, strict=True)}


def _judge(
    corpus: Corpus,
    hidden: HiddenGaps,
    predictor: Predictor | None,
    smoother: ModelConfig | None,
    more: dict[str, GapPositions],
) -> dict[str, Any]:
    """Scores all predictors, `more` of them among these."""
    row, start_lat, entity = _hidden_rows(corpus, hidden)
    answers = answer_gaps(corpus, hidden, predictor, smoother) | more
    cases = {name: _measure(corpus, row, start_lat, bridged) for name, bridged in answers.items()}
    out: dict[str, Any] = {"n": len(row)}
    out |= {name: score(case, entity)._asdict() for name, case in cases.items()}
    if predictor is not None:
        out["model_vs_best"] = compare_with_best(cases, entity)
    if BESIDE in cases:
        found = compare_pairs(cases[BESIDE].distance_m, cases[MODEL].distance_m, entity)
        out["atlas_vs_model"] = {"baseline": MODEL, **found._asdict()}
    return out


def _hidden_rows(corpus: Corpus, hidden: HiddenGaps) -> tuple[Rows, F64, NDArray[np.int32]]:
    """Returns the row, the latitude of the fix before the gap, and the entity of every hidden ping (P,)."""
    inside = [np.arange(before + 1, after) for before, after in zip(hidden.before, hidden.after, strict=True)]
    counts = [len(rows) for rows in inside]
    start_lat = np.repeat(corpus.lat[hidden.before], counts)
    return np.concatenate(inside), start_lat, corpus.entity[np.repeat(hidden.track, counts)]


def _measure(corpus: Corpus, row: Rows, start_lat: F64, bridged: GapPositions) -> Cases:
    lat, lon = corpus.lat[row], corpus.lon[row]
    return measure(
        error_en_m(lat, lon, bridged.lat, bridged.lon, start_lat),
        bridged.cov_m2,
        haversine_m(lat, lon, bridged.lat, bridged.lon),
    )


def _gap(corpus: Corpus, hidden: HiddenGaps, index: int) -> Gap:
    before, after = _find_known_before(corpus, hidden, index, FIXES_BEFORE), _find_known_after(corpus, hidden, index)
    times_ms = np.asarray(corpus.ts_ms[hidden.before[index] + 1 : hidden.after[index]])
    return Gap(corpus.fixes(before), corpus.fixes(after), times_ms)


def _find_known_before(corpus: Corpus, hidden: HiddenGaps, index: int, most: int) -> Rows:
    """Returns the last `most` known rows of the track up to the gap."""
    end = int(hidden.before[index]) + 1
    # Half of the rows may be hidden; three times as many almost always contain enough known ones.
    start = max(int(corpus.tracks[hidden.track[index], 0]), end - 3 * most - 64)
    return np.asarray(start + np.flatnonzero(hidden.known[start:end]))[-most:]


def _find_known_after(corpus: Corpus, hidden: HiddenGaps, index: int) -> Rows:
    start, stop = int(hidden.after[index]), int(corpus.tracks[hidden.track[index], 1])
    near = min(stop, start + 64)
    return np.asarray(start + np.flatnonzero(hidden.known[start:near]))[:FIXES_AFTER]


def _fill(corpus: Corpus, hidden: HiddenGaps, gaps: list[Gap], predictor: Predictor) -> GapPositions:
    """Returns the model's fills."""
    moment = _rebuild_states(corpus, hidden, gaps, predictor)
    fills: list[Fill] = []
    for first in range(0, len(gaps), BATCH):
        rows = np.arange(first, min(first + BATCH, len(gaps)))
        fills += predictor.fill_at(moment.at(rows), gaps[first : first + BATCH])
    return _join_fills(fills)


def _rebuild_states(corpus: Corpus, hidden: HiddenGaps, gaps: list[Gap], predictor: Predictor) -> Moment:
    """Returns the states that fill gaps, each rebuilt from the known pings, as after a takeover by another worker."""
    slots = predictor.acquire(min(BATCH, len(gaps)))
    found = []
    for first in range(0, len(gaps), BATCH):
        batch = range(first, min(first + BATCH, len(gaps)))
        windows = []
        for index in batch:
            after = gaps[index].after
            past = _find_known_before(corpus, hidden, index, predictor.history - len(after))
            windows.append(np.concatenate([corpus.fixes(past), after]))
        predictor.rebuild(slots[: len(batch)], windows)
        found.append(predictor.moment(slots[: len(batch)]))
    predictor.release(slots)
    return Moment.join(found)


def _join_fills(fills: Sequence[Fill]) -> GapPositions:
    lat, lon, cov_m2 = (np.concatenate([getattr(fill, part) for fill in fills]) for part in ("lat", "lon", "cov_m2"))
    return GapPositions(lat, lon, cov_m2)


def _bridge(gaps: list[Gap]) -> dict[str, GapPositions]:
    """Returns the baselines' fills from the fixes next to the gaps: from their positions alone, and where some report
    speed and course, also Hermite from these.
    """
    reported, batch = stack(gaps).ends, stack([_without_reports(gap) for gap in gaps])
    t_s, asked = batch.pad()
    ways = {name: (bridge, batch.ends) for name, bridge in BRIDGES.items()}
    if (reported.reported_before + reported.reported_after).any():
        ways[HERMITE_REPORTED] = (hermite, reported)
    out = {}
    for name, (bridge, ends) in ways.items():
        en_m = bridge(ends.chord_en, ends.gap_s, ends.before_mps, ends.after_mps, t_s)
        lat, lon = move_deg(batch.start_lat[:, None], batch.start_lon[:, None], en_m)
        out[name] = GapPositions(lat[asked], lon[asked], None)
    return out


def _without_reports(gap: Gap) -> Gap:
    """Returns the gap without reported speed and course."""
    before, after = gap.before.copy(), gap.after.copy()
    for fixes in (before, after):
        fixes["speed_cms"], fixes["heading_cdeg"] = ABSENT, ABSENT
    return Gap(before, after, gap.times_ms)


def _smooth(case: PreparedGaps, physics: ModelConfig) -> GapPositions:
    """Returns the smoother's fills, from the filter over the fixes before and all known fixes after."""
    batch = stack(case.gaps)
    t_s, asked = batch.pad()
    before = np.array([past[-1] for past in case.past])
    law = rts(kinematics(case.past, physics), before, [gap.after for gap in case.gaps], t_s, physics)
    lat, lon = move_deg(batch.start_lat[:, None], batch.start_lon[:, None], law.mean_en)
    var = law.var_m2[asked]
    return GapPositions(lat[asked], lon[asked], np.stack([var, np.zeros_like(var), var], axis=-1))
