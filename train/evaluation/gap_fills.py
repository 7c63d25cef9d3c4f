"""The judge of gap fills: pings hidden between two that are known, and where each predictor puts them. Prints nothing.

The protocol: blocks of 30 s, 2, 5 and 15 min are hidden, or each ping with a chance of one half; hidden pings only
are scored. A block is the pings strictly inside one such span: from the ping before it to the first ping at or after
its end. Of what is outside of it, model and smoother know three pings after it and those before it, the model as many
as it remembers, with the speed and course that they report, the smoother 32; linear knows the two ends alone, Hermite
a step more on each side, or (`hermite_reported`) what the ends report, if these steps agree.

Letters: G gaps, M points of a gap, P hidden pings of all gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import ABSENT, Gap, Predictor
from model.config import ModelConfig
from model.kinematics.baselines import BRIDGES, hermite, kinematics
from model.kinematics.geo import F64, haversine_m, moved_deg
from model.kinematics.smoother import rts
from model.serving.gaps import stack
from train.data.anchors import EARLIER_PINGS
from train.data.corpus import Corpus
from train.evaluation.forecasts import Sample, about, error_en_m, versus_best
from train.evaluation.metrics import Cases, energy_score, measure, score
from train.evaluation.rollout import MODEL

Rows = NDArray[np.int64]

BLOCKS_S: Final = (30.0, 120.0, 300.0, 900.0)
HALF: Final = "half"  # the name of the random case
FIXES_AFTER: Final = 3  # the gap's end and two more: what a final fill knows (stream/wire/messages.py, revisions)
FIXES_BEFORE: Final = 4
FILTER_FIXES: Final = 32  # before the gap, for the smoother's filter to settle: it remembers no more
HERMITE_REPORTED: Final = "hermite_reported"
RTS: Final = "rts"
RTS_FITTED: Final = "rts_fitted"
BATCH: Final = 128  # gaps side by side


class Hidden(NamedTuple):
    """G gaps of one case."""

    track: Rows  # (G,)
    before: Rows  # (G,) row of the last known ping before the gap
    after: Rows  # (G,) row of the first known ping after it; everything in between is hidden
    known: NDArray[np.bool_]  # (R,) rows known outside of the gap in question


class Prepared(NamedTuple):
    """One case as the smoother needs it."""

    hidden: Hidden
    gaps: list[Gap]
    past: list[NDArray[Any]]  # the fixes up to each gap


class Bridged(NamedTuple):
    """One predictor's Gaussians at the P hidden pings; cov_m2 is None where it has none."""

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
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Scores as plain data for JSON: `blocks.<seconds|half>.<predictor>`; `most` gaps are judged per block length.

    `smoother` is the physics of a smoother fitted to the train split; without it there is only one of default noise.
    """
    corpus = sample.corpus
    cases = {f"{block_s:g}": hide_blocks(corpus, block_s) for block_s in blocks_s}
    cases[HALF] = hide_half(corpus, seed)
    blocks: dict[str, Any] = {}
    for number, (name, hidden) in enumerate(cases.items(), start=1):
        kept = evenly(hidden, most)
        if len(kept.before):
            blocks[name] = {
                "gaps": len(kept.before),
                "gaps_in_split": len(hidden.before),
                **_judge(corpus, kept, predictor, smoother),
            }
        progress(number / len(cases))
    return {**about(sample), "blocks": blocks}


def hide_blocks(corpus: Corpus, block_s: float) -> Hidden:
    """Blocks of one length, each after at least 8 pings since the last one, with a known step on both sides."""
    track, before, after = [], [], []
    for index, (first, last) in enumerate(corpus.tracks):
        ts_ms = np.asarray(corpus.ts_ms[first:last])
        ends = np.searchsorted(ts_ms, ts_ms + round(1000 * block_s))  # for every ping, where a block from it would end
        place = EARLIER_PINGS
        while place < len(ts_ms) and ends[place] < len(ts_ms) - 1:
            end = int(ends[place])
            if end - place >= 2:
                track.append(index)
                before.append(first + place)
                after.append(first + end)
            place = end + EARLIER_PINGS if end - place >= 2 else place + 1
    known = np.ones(len(corpus.ts_ms), bool)
    return Hidden(np.array(track, np.int64), np.array(before, np.int64), np.array(after, np.int64), known)


def hide_half(corpus: Corpus, seed: int = 0) -> Hidden:
    """Every ping hidden with a chance of one half, but for the first 9 and the last 2 of a track."""
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
    return Hidden(np.concatenate(track), np.concatenate(before), np.concatenate(after), known)


def evenly(hidden: Hidden, most: int | None) -> Hidden:
    """At most `most` of the gaps, spread over all of them."""
    count = len(hidden.before)
    if most is None or count <= most:
        return hidden
    chosen = np.linspace(0, count - 1, most).round().astype(np.int64)
    return Hidden(hidden.track[chosen], hidden.before[chosen], hidden.after[chosen], hidden.known)


def prepare(corpus: Corpus, hidden: Hidden) -> Prepared:
    """The fixes around each gap."""
    count = range(len(hidden.before))
    past = [corpus.fixes(_known_before(corpus, hidden, index, FILTER_FIXES)) for index in count]
    return Prepared(hidden, [_gap(corpus, hidden, index) for index in count], past)


def answer(
    corpus: Corpus, hidden: Hidden, predictor: Predictor | None, smoother: ModelConfig | None = None
) -> dict[str, Bridged]:
    """Every predictor's answers at the hidden pings, gap by gap in the order of their rows."""
    case = prepare(corpus, hidden)
    out = {} if predictor is None else {MODEL: _fill(corpus, hidden, case.gaps, predictor)}
    out |= _bridge(case.gaps)
    out[RTS] = _smooth(case, ModelConfig() if predictor is None else predictor.config)
    if smoother is not None:
        out[RTS_FITTED] = _smooth(case, smoother)
    return out


def smoother_crps(corpus: Corpus, case: Prepared, physics: ModelConfig) -> F64:
    """CRPS (P,) of the smoother with that noise, in metres."""
    row, start_lat, _ = _hidden_rows(corpus, case.hidden)
    found = _smooth(case, physics)
    assert found.cov_m2 is not None
    error = error_en_m(corpus.lat[row], corpus.lon[row], found.lat, found.lon, start_lat)
    return energy_score(error, found.cov_m2)


def _judge(corpus: Corpus, hidden: Hidden, predictor: Predictor | None, smoother: ModelConfig | None) -> dict[str, Any]:
    row, start_lat, entity = _hidden_rows(corpus, hidden)
    answers = answer(corpus, hidden, predictor, smoother)
    cases = {name: _measure(corpus, row, start_lat, bridged) for name, bridged in answers.items()}
    out: dict[str, Any] = {"n": len(row)}
    out |= {name: score(case, entity)._asdict() for name, case in cases.items()}
    if predictor is not None:
        out["model_vs_best"] = versus_best(cases, entity)
    return out


def _hidden_rows(corpus: Corpus, hidden: Hidden) -> tuple[Rows, F64, NDArray[np.int32]]:
    """Row, latitude of the fix before the gap, and entity of every hidden ping (P,)."""
    inside = [np.arange(before + 1, after) for before, after in zip(hidden.before, hidden.after, strict=True)]
    counts = [len(rows) for rows in inside]
    start_lat = np.repeat(corpus.lat[hidden.before], counts)
    return np.concatenate(inside), start_lat, corpus.entity[np.repeat(hidden.track, counts)]


def _measure(corpus: Corpus, row: Rows, start_lat: F64, bridged: Bridged) -> Cases:
    lat, lon = corpus.lat[row], corpus.lon[row]
    return measure(
        error_en_m(lat, lon, bridged.lat, bridged.lon, start_lat),
        bridged.cov_m2,
        haversine_m(lat, lon, bridged.lat, bridged.lon),
    )


def _gap(corpus: Corpus, hidden: Hidden, index: int) -> Gap:
    before, after = _known_before(corpus, hidden, index, FIXES_BEFORE), _known_after(corpus, hidden, index)
    times_ms = np.asarray(corpus.ts_ms[hidden.before[index] + 1 : hidden.after[index]])
    return Gap(corpus.fixes(before), corpus.fixes(after), times_ms)


def _known_before(corpus: Corpus, hidden: Hidden, index: int, most: int) -> Rows:
    """The last `most` known rows of the track up to the gap."""
    end = int(hidden.before[index]) + 1
    # Half of the rows may be hidden; three times as many hold enough of them but for a vanishing chance.
    start = max(int(corpus.tracks[hidden.track[index], 0]), end - 3 * most - 64)
    return np.asarray(start + np.flatnonzero(hidden.known[start:end]))[-most:]


def _known_after(corpus: Corpus, hidden: Hidden, index: int) -> Rows:
    start, stop = int(hidden.after[index]), int(corpus.tracks[hidden.track[index], 1])
    near = min(stop, start + 64)
    return np.asarray(start + np.flatnonzero(hidden.known[start:near]))[:FIXES_AFTER]


def _fill(corpus: Corpus, hidden: Hidden, gaps: list[Gap], predictor: Predictor) -> Bridged:
    """The model's answers: each gap's state is rebuilt from the known pings, as after a takeover."""
    slots = predictor.acquire(min(BATCH, len(gaps)))
    fills = []
    for first in range(0, len(gaps), BATCH):
        batch = range(first, min(first + BATCH, len(gaps)))
        windows = []
        for index in batch:
            after = gaps[index].after
            past = _known_before(corpus, hidden, index, predictor.history - len(after))
            windows.append(np.concatenate([corpus.fixes(past), after]))
        predictor.rebuild(slots[: len(batch)], windows)
        fills += predictor.fill(slots[: len(batch)], [gaps[index] for index in batch])
    predictor.release(slots)
    lat, lon, cov_m2 = (np.concatenate([getattr(fill, part) for fill in fills]) for part in ("lat", "lon", "cov_m2"))
    return Bridged(lat, lon, cov_m2)


def _bridge(gaps: list[Gap]) -> dict[str, Bridged]:
    """The baselines' answers, all from the fixes next to the gaps: by their positions alone, and where some report
    speed and course, Hermite by these, too."""
    told, batch = stack(gaps).ends, stack([_mute(gap) for gap in gaps])
    t_s, asked = batch.padded()
    ways = {name: (bridge, batch.ends) for name, bridge in BRIDGES.items()}
    if (told.told_before + told.told_after).any():
        ways[HERMITE_REPORTED] = (hermite, told)
    out = {}
    for name, (bridge, ends) in ways.items():
        en_m = bridge(ends.chord_en, ends.gap_s, ends.before_mps, ends.after_mps, t_s)
        lat, lon = moved_deg(batch.start_lat[:, None], batch.start_lon[:, None], en_m)
        out[name] = Bridged(lat[asked], lon[asked], None)
    return out


def _mute(gap: Gap) -> Gap:
    """The same, but for what its fixes report beside where they are."""
    before, after = gap.before.copy(), gap.after.copy()
    for fixes in (before, after):
        fixes["speed_cms"], fixes["heading_cdeg"] = ABSENT, ABSENT
    return Gap(before, after, gap.times_ms)


def _smooth(case: Prepared, physics: ModelConfig) -> Bridged:
    """The smoother's answers, from the filter over the fixes before and all that are known after."""
    batch = stack(case.gaps)
    t_s, asked = batch.padded()
    before = np.array([past[-1] for past in case.past])
    law = rts(kinematics(case.past, physics), before, [gap.after for gap in case.gaps], t_s, physics)
    lat, lon = moved_deg(batch.start_lat[:, None], batch.start_lon[:, None], law.mean_en)
    var = law.var_m2[asked]
    return Bridged(lat[asked], lon[asked], np.stack([var, np.zeros_like(var), var], axis=-1))
