"""Do a fleet's earlier pings make gap fills and travel times nearer? Nothing is trained; a few numbers are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from model.atlas import estimate
from model.atlas.outcomes import expected_m, velocities
from model.kinematics.geo import F64
from train.data.corpus import Corpus
from train.data.snapshots import keys_at, snapshots
from train.data.splits import held_back
from train.evaluation.forecasts import Part
from train.evaluation.gap_fills import answer, evenly, hide_blocks
from train.evaluation.metrics import Difference, paired
from train.evaluation.rollout import MODEL
from train.evaluation.travel.travel_times import NEAREST, of_predictor
from train.evaluation.travel.trips import Trips, long_enough, place_km, trips
from train.experiments.lab.lab import Lab
from train.experiments.lab.passages import CUT_MS, MIN_ENTITIES, Fleet, Gaps, from_passages, metres_from
from train.experiments.lab.report import Finding, Line, Picture, Table

WEIGHTS: Final = "small"
PARTS: Final[dict[str, Part]] = {"cabspotting_sf.parquet": "all"}  # which these weights never saw; of others the test
BLOCKS_S: Final = (120.0, 300.0, 900.0)
MOST_ANCHORS: Final = 10**8  # all tracks, of which gaps and trips are taken evenly
GAPS, TRIPS = 300, 400  # at most, of each length
MOST_PINGS: Final = 1_500_000  # of a fleet, the newest; then gaps of the last quarter of their tracks are judged
SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # of a correction
COUNTS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 1e9)  # passages by which the model's fill counts
ENOUGH: Final = 0.03  # a gain that is worth building something
BENT, BRIDGE, PASSAGES = "atlas, bent", "atlas, drawn to the end", "passages"

QUESTION = (
    "Forecasts ask the fleet's own atlas; gap fills and travel times do not, as in the tutorial (arXiv 2511.20610), "
    "which knows no fleet. Would they be nearer by 3 % or more if they asked it? "
    "And would another thing than an atlas be, one that knows how earlier tracks went between the two ends?"
)
METHOD = (
    "Nothing is trained. `small` fills the gaps of the evaluation's protocol, and each fill is moved in one of three "
    "ways. 'Atlas, bent': by what the atlas expects at that time from the start on, off(t), less t/T of what it "
    "expects at the end, so that both ends stay. 'Atlas, drawn to the end': towards the atlas's own forecast, which is "
    "drawn to the known end likewise. 'Passages': towards the mean of how earlier tracks went that came within 200 m "
    "of both ends in half to twice the time, of three or more entities. How far each goes is one number for a file and "
    "length, chosen on every other entity; errors are those of the others. Of travel times, `small`'s answer is mixed "
    "with the median of the 15 most similar trips that had ended (by origin, destination, hour). All know only what "
    "was known at the last midnight (UTC)."
)


class Row(NamedTuple):
    file: str
    block_s: float
    pings: int
    model_m: float
    known: float  # share of the hidden pings between whose ends three entities are known to have gone
    gains: dict[str, Difference]
    shares: dict[str, float]  # the numbers that were chosen


class Times(NamedTuple):
    file: str
    trips: int
    model_min: float
    like_min: float
    mixed: Difference  # in minutes
    share: float  # of the like trips in the mix


def run(lab: Lab) -> Finding:
    predictor, rows, times, notes = Predictor.load(WEIGHTS), list[Row](), list[Times](), list[str]()
    for source in lab.data:
        sample = replace(lab, most_anchors=MOST_ANCHORS).sample(source.name, PARTS.get(source.name, "test"))
        assert sample.fleet is not None  # set by open_samples
        fleet = sample.fleet.select(~held_back(sample.fleet))
        times.append(_times(source.name, fleet, sample.corpus, predictor))
        fleet, corpus = newest(fleet, sample.corpus)
        notes.append(
            f"{source.name}, split {sample.split}: a fleet of {fleet.pings:,} pings, {len(corpus):,} tracks judged"
        )
        lab.say(notes[-1])
        rows += _fills(lab, source.name, fleet, corpus, predictor)
    return Finding(
        QUESTION,
        METHOD,
        [_gap_table(rows), _time_table(times)],
        [_picture(rows)],
        conclude(rows, times),
        (lab.seed,),
        notes,
    )


def newest(fleet: Corpus, corpus: Corpus) -> tuple[Corpus, Corpus]:
    """Returns the newest MOST_PINGS of a fleet, and those of its judged tracks that begin in their last quarter; all of
    both where the fleet has fewer.
    """
    if fleet.pings <= MOST_PINGS:
        return fleet, corpus
    begin_ms = np.asarray(fleet.ts_ms[fleet.tracks[:, 0]])
    order = np.argsort(-begin_ms, kind="stable")
    kept = order[np.cumsum((fleet.tracks[:, 1] - fleet.tracks[:, 0])[order]) <= MOST_PINGS]
    from_ms = np.quantile(begin_ms[kept], 0.75)
    return fleet.select(np.sort(kept)), corpus.select(np.asarray(corpus.ts_ms[corpus.tracks[:, 0]]) >= from_ms)


def _fills(lab: Lab, file: str, fleet: Corpus, corpus: Corpus, predictor: Predictor) -> list[Row]:
    cases = [(s, evenly(hide_blocks(corpus, s), GAPS)) for s in BLOCKS_S]
    gaps = [(s, Gaps.of(corpus, hidden)) for s, hidden in cases if len(hidden.before)]
    if not gaps:
        raise ValueError(f"{file}: no track has room for a gap of {BLOCKS_S[0] / 60:g} min")
    offs = from_atlas(fleet, corpus, [gap for _, gap in gaps])
    index, rows = Fleet(fleet), []
    for (block_s, one), (off, off_end) in zip(gaps, offs, strict=True):
        fill = answer(corpus, one.hidden, predictor)[MODEL]
        model, truth = (
            metres_from(corpus, one.hidden.before[one.gap], *at)
            for at in ((fill.lat, fill.lon), (corpus.lat[one.row], corpus.lon[one.row]))
        )
        bow, count = from_passages(index, corpus, one)
        velocity = velocities(corpus.fixes(one.hidden.before), corpus.fixes(one.hidden.before - 1))
        ahead, end = (
            expected_m(velocity[of], t_s[:, None])[:, 0]
            for of, t_s in ((one.gap, one.share * one.took_s[one.gap]), (slice(None), one.took_s))
        )
        bent = off - one.share[:, None] * off_end[one.gap]
        bridge = ahead + bent + one.share[:, None] * (one.chord_m - end)[one.gap] - model
        towards = one.straight_m + bow - model
        ways = {
            BENT: {share: share * bent for share in SHARES},
            BRIDGE: {share: share * bridge for share in SHARES},
            PASSAGES: {known: (count / (count + known))[:, None] * towards for known in COUNTS},
        }
        entity = corpus.entity[one.hidden.track][one.gap]
        gains, chosen = {}, {}
        for name, moves in ways.items():
            errors = {number: np.linalg.norm(model + move - truth, axis=-1) for number, move in moves.items()}
            chosen[name], gains[name] = judged(errors, np.linalg.norm(model - truth, axis=-1), entity)
        base = np.linalg.norm(model - truth, axis=-1)[entity % 2 == 1]
        rows.append(Row(file, block_s, len(base), float(base.mean()), float((count > 0).mean()), gains, chosen))
        lab.say(f"{file}, {block_s / 60:g} min: { ({name: gain.ratio for name, gain in gains.items()}) }")
    return rows


def judged(errors: dict[float, F64], base: F64, entity: NDArray[Any]) -> tuple[float, Difference]:
    """Returns the number whose errors are the least for every other entity, and what it gains for the others."""
    ours, others = entity % 2 == 0, entity % 2 == 1
    if not ours.any() or not others.any():
        raise ValueError("no two entities have gaps, or trips, to choose by and to judge by")
    best = min(errors, key=lambda number: float(errors[number][ours].mean()))
    return best, paired(errors[best][others], base[others], entity[others])


def from_atlas(fleet: Corpus, corpus: Corpus, gaps: Sequence[Gaps]) -> list[tuple[F64, F64]]:
    """Returns what the atlas of that day expects beyond physics: at each hidden ping (P, 2), and at the ends (G, 2)."""
    before = np.concatenate([one.hidden.before for one in gaps])
    first = np.cumsum([0, *(len(one.hidden.before) for one in gaps)])
    most = max(int(np.bincount(one.gap).max()) for one in gaps) + 1
    dt_s = np.ones((len(before), most))
    at = []
    for one, low in zip(gaps, first, strict=False):
        place = np.arange(len(one.gap)) - np.searchsorted(one.gap, one.gap) + 1
        dt_s[low + one.gap, place] = one.share * one.took_s[one.gap]
        dt_s[low : low + len(one.took_s), 0] = one.took_s
        at.append(place)
    asked, off = keys_at(corpus, before), np.zeros((len(before), most, 2))
    for now in snapshots(fleet, asked, np.asarray(corpus.ts_ms[before]), every_ms=CUT_MS, min_entities=MIN_ENTITIES):
        rows = now.rows
        off[rows] = estimate.read(now.published, asked[rows], dt_s[rows], np.zeros_like(dt_s[rows])).off_m
    return [
        (off[low + one.gap, place], off[low : low + len(one.took_s), 0])
        for one, low, place in zip(gaps, first, at, strict=False)
    ]


def _times(file: str, fleet: Corpus, corpus: Corpus, predictor: Predictor) -> Times:
    known, asked = trips(long_enough(fleet)), trips(long_enough(corpus))
    asked = asked.where(np.unique(np.linspace(0, len(asked.seconds) - 1, TRIPS).astype(int)))
    like_s = like_trips(known, asked)
    asked, like_s = asked.where(np.isfinite(like_s)), like_s[np.isfinite(like_s)]
    model_s = of_predictor(predictor)(asked.origin, asked.lat, asked.lon).median_s
    mixes = {share: np.exp((1 - share) * np.log(model_s) + share * np.log(like_s)) for share in SHARES}
    off = {share: np.abs(mix - asked.seconds) / 60 for share, mix in mixes.items()}
    share, gain = judged(off, off[0.0], asked.entity)
    others = asked.entity % 2 == 1
    return Times(file, int(others.sum()), float(off[0.0][others].mean()), float(off[1.0][others].mean()), gain, share)


def like_trips(known: Trips, asked: Trips) -> F64:
    """Returns the median time (N,) of the NEAREST trips that had ended by the last CUT_MS; NaN where fewer had."""
    ended_ms = known.origin["ts_ms"] + 1000.0 * known.seconds
    there = place_km(known.origin, known.lat, known.lon, known)
    here = place_km(asked.origin, asked.lat, asked.lon, known)
    out = np.full(len(asked.seconds), np.nan)
    for number, at in enumerate(here):
        rows = np.flatnonzero(ended_ms < asked.origin["ts_ms"][number] // CUT_MS * CUT_MS)
        if len(rows) >= NEAREST:
            near = np.argpartition(((there[rows] - at) ** 2).sum(-1), NEAREST - 1)[:NEAREST]
            out[number] = np.median(known.seconds[rows[near]])
    return out


def change(gain: Difference) -> float | None:
    """Returns by how many per cent errors change."""
    return None if gain.ratio is None else 100.0 * (gain.ratio - 1.0)


def _gap_table(rows: Sequence[Row]) -> Table:
    columns: tuple[str, ...] = ("file", "gap, min", "pings", "small, m", "passages known, %")
    names = (BENT, BRIDGE, PASSAGES)
    columns += tuple(column for name in names for column in (f"{name}, %", "from, m", "to, m", "chosen"))

    def cells(row: Row) -> tuple[Any, ...]:
        parts = ((change(row.gains[n]), row.gains[n].low_m, row.gains[n].high_m, f"{row.shares[n]:g}") for n in names)
        return (
            row.file,
            f"{row.block_s / 60:g}",
            row.pings,
            row.model_m,
            100 * row.known,
            *(x for part in parts for x in part),
        )

    return Table(
        "Gap fills: the mean error of `small`, and how it changes (95 % intervals by entity)",
        columns,
        [cells(row) for row in rows],
    )


def _time_table(times: Sequence[Times]) -> Table:
    columns = (
        "file",
        "trips",
        "small, min",
        "like trips, min",
        "mixed, %",
        "from, min",
        "to, min",
        "share of like trips",
    )
    rows = [
        (
            one.file,
            one.trips,
            one.model_min,
            one.like_min,
            change(one.mixed),
            one.mixed.low_m,
            one.mixed.high_m,
            f"{one.share:g}",
        )
        for one in times
    ]
    return Table(
        "Travel times: the mean error of `small`, and how it changes where like trips are mixed in", columns, rows
    )


def _picture(rows: Sequence[Row]) -> Picture:
    lines = []
    for file in dict.fromkeys(row.file for row in rows):
        mine = [row for row in rows if row.file == file]
        lines += [
            Line(
                f"{file.split('_')[0]}: {name}",
                [row.block_s / 60 for row in mine],
                [change(row.gains[name]) or 0.0 for row in mine],
            )
            for name in (BENT, BRIDGE, PASSAGES)
        ]
    return Picture("gains", "Change of the mean error of gap fills", "minutes of the gap", "%", lines, log_x=True)


def conclude(rows: Sequence[Row], times: Sequence[Times]) -> str:
    def said(name: str, gains: Sequence[tuple[str, Difference]], good: Callable[[Difference], bool]) -> str:
        worth = sum(good(gain) for _, gain in gains)
        listed = ", ".join(f"{change(gain) or 0.0:+.1f} % ({what})" for what, gain in gains)
        return f"{name}: {worth} of {len(gains)} gain {100 * ENOUGH:g} % or more beyond chance: {listed}."

    def good(gain: Difference) -> bool:
        return gain.ratio is not None and gain.ratio <= 1 - ENOUGH and gain.high_m < 0

    parts = [
        said(name, [(f"{row.file}, {row.block_s / 60:g} min", row.gains[name]) for row in rows], good)
        for name in (BENT, BRIDGE, PASSAGES)
    ]
    return " ".join([*parts, said("travel times, mixed", [(one.file, one.mixed) for one in times], good)])
