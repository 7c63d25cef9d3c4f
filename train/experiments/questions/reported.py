"""How do reported speed and course change the forecasts of the bundled weights? Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from model.api import Predictor
from model.kinematics.geo import F64
from train.data.anchors import EARLIER_PINGS
from train.data.corpus import Corpus
from train.data.resampling import STEP_S, thinned
from train.evaluation.baselines.dead_reckoning import REPORTED
from train.evaluation.forecasts import ROAD, Part, Sample, judge_forecasts
from train.evaluation.gap_fills import HERMITE_REPORTED, judge_gap_fills
from train.evaluation.rollout import MODEL
from train.experiments.lab.lab import Lab
from train.experiments.lab.report import Finding, Line, Picture, Table, cells

# and the tracks of FILE that they never saw
WEIGHTS: Final[dict[str, Part]] = {"small": "all", "small-research": "test"}
FILE: Final = "geolife_labelled.parquet"  # a ping every 2 s: dense enough to show the speed at a ping
MOST_ANCHORS: Final = 200_000  # of the full tracks; resampling leaves some 25,000 and 6,000
CADENCES_S: Final = (15.0, 60.0)
NOTHING, SPEED, BOTH = "nothing", "speed", "speed and course"
STILL, UNIT, TURNED = "stands, north", "km/h for m/s", "quarter turn off"
RIGHT, WRONG = (NOTHING, SPEED, BOTH), (STILL, UNIT, TURNED)
HORIZONS: Final = {"next": "next", "60": "60 s", "300": "5 min", "900": "15 min"}
BLOCKS_S: Final = (120.0, 300.0, 900.0)
GAPS: Final = 1_000  # of each length, at most
WORSE: Final = 0.01  # a larger change than that from random reports

QUESTION = (
    "Receivers know how fast they go, and where to. What are forecasts and gap fills worth that know both, and what do "
    "they cost where a receiver reports them wrongly? The tutorial (arXiv 2511.20610) asks of positions alone; fleets "
    "mostly have both."
)
METHOD = (
    "Dense tracks that the weights never saw are thinned to a ping every 15 s and every minute, and each ping tells "
    "nothing, its speed, or its speed and course: those of the last 2 to 6 s of the full track, which is what a "
    "receiver knows at that time, and no later fix is in it. Then all receivers err, from first to last: they say that "
    "they stand and look north, tell km/h as if they were m/s, or have a compass that is off by a quarter of a turn. "
    "The bundled weights are asked at the same anchors and gaps each time; small on every k-th of all tracks, "
    "small-research on the test split's, so that the two are not to be held against each other."
)


@dataclass(frozen=True)
class Row:
    """One way of reporting, for one cadence and weights. Metres are means, shares in 0..1."""

    weights: str
    cadence_s: float
    way: str
    ahead_m: tuple[float, ...]  # by HORIZONS; NaN where nothing lies that far ahead
    held: tuple[float, ...]  # coverage of 90 % regions, by HORIZONS
    reckoned_m: tuple[float, ...]  # dead reckoning from reported speed and course; NaN where they are not reported
    gap_m: tuple[float, ...]  # by BLOCKS_S; NaN where there is none of that length
    hermite_m: tuple[float, ...]  # the same for the Hermite curve, from the reported velocities where both are reported


def run(lab: Lab) -> Finding:
    file, lab = lab.file_or_first(FILE), replace(lab, most_anchors=MOST_ANCHORS)
    modes = ROAD if file.name == FILE else ()
    rows, notes = [], []
    if others := [other.name for other in lab.data if other != file]:
        notes.append(f"Only {file.name} is judged on, not {', '.join(others)}")
        lab.say(notes[0])
    for weights, part in WEIGHTS.items():
        sample = lab.sample(file.name, part, modes)
        entities = len(np.unique(sample.corpus.entity))
        road = " by road" if modes else ""
        notes.append(
            f"{weights}: {file.name}{road}, split {part}, {len(sample.corpus):,} tracks of {entities} entities"
        )
        predictor = Predictor.load(weights)
        for cadence_s, thin in [(cadence_s, _thinned(sample, cadence_s)) for cadence_s in CADENCES_S]:
            for way in (*RIGHT, *WRONG):
                lab.say(f"{weights}, a ping every {cadence_s:g} s, reported: {way}")
                rows.append(_row(predictor, weights, cadence_s, way, replace(sample, corpus=with_reports(thin, way))))
    return Finding(
        QUESTION,
        METHOD,
        [_forecasts(rows), _gaps(rows)],
        [_picture(rows)],
        conclude(rows),
        (lab.seed,),
        notes,
    )


def _thinned(sample: Sample, cadence_s: float) -> Corpus:
    thin = thinned(sample.corpus, cadence_s)
    if not any(np.isfinite(thin.speed_mps[first:last]).any() for first, last in thin.tracks):
        raise ValueError(
            f"{sample.file}: thinned to a ping every {cadence_s:g} s, no track of {EARLIER_PINGS + 2} pings or more "
            f"tells a speed: are its pings more than {STEP_S[1]:g} s apart, or its tracks short?"
        )
    return thin


def with_reports(corpus: Corpus, way: str) -> Corpus:
    """Returns the same pings with only those fields reported, or with both and one of them wrong."""
    speed_mps, heading_deg = corpus.speed_mps, corpus.heading_deg
    nothing = np.full(len(corpus.ts_ms), np.nan, np.float32)
    reported = {
        NOTHING: (nothing, nothing),
        SPEED: (speed_mps, nothing),
        BOTH: (speed_mps, heading_deg),
        STILL: (0 * speed_mps, 0 * heading_deg),
        UNIT: (speed_mps * np.float32(3.6), heading_deg),
        TURNED: (speed_mps, (heading_deg + np.float32(90)) % np.float32(360)),
    }
    speed_mps, heading_deg = reported[way]
    return replace(corpus, speed_mps=speed_mps, heading_deg=heading_deg)


def _row(predictor: Predictor, weights: str, cadence_s: float, way: str, sample: Sample) -> Row:
    ahead = judge_forecasts(sample, predictor)["horizons"]
    blocks = judge_gap_fills(sample, predictor, blocks_s=BLOCKS_S, most=GAPS)["blocks"]

    def of(scores: dict[str, Any], names: Sequence[str], who: str, what: str = "mean_m") -> tuple[float, ...]:
        return tuple(scores[name].get(who, {}).get(what, np.nan) if name in scores else np.nan for name in names)

    lengths = [f"{block_s:g}" for block_s in BLOCKS_S]
    if not set(lengths) & set(blocks):
        raise ValueError(
            f"{sample.file}: thinned to a ping every {cadence_s:g} s, no track has room for a gap of "
            f"{min(BLOCKS_S) / 60:g} min: are its tracks short?"
        )
    return Row(
        weights,
        cadence_s,
        way,
        of(ahead, list(HORIZONS), MODEL),
        of(ahead, list(HORIZONS), MODEL, "coverage_90"),
        of(ahead, list(HORIZONS), REPORTED),
        of(blocks, lengths, MODEL),
        of(blocks, lengths, "hermite" if way in (NOTHING, SPEED) else HERMITE_REPORTED),
    )


def conclude(rows: Sequence[Row]) -> str:
    """Two sentences: what reports improve, and where they harm."""
    gains, harmed, misled = [], [], []
    for (weights, cadence_s), ways in _by_weights(rows).items():
        at = f"{weights}, a ping every {cadence_s:g} s"
        changes = {way: _changes(row, ways[NOTHING]) for way, row in ways.items()}
        next_ping, fill = (100 * np.nanmean(changes[BOTH][part]) for part in (slice(0, 1), slice(4, None)))
        gains.append(f"{next_ping:+.1f} and {fill:+.1f} % ({at})")
        worst = {way: 100 * float(np.nanmax(change)) for way, change in changes.items()}
        harmed += [f"{at}, reported {way} ({worst[way]:+.1f} %)" for way in (SPEED, BOTH) if worst[way] > 100 * WORSE]
        misled += [(worst[way], f"{at}, {way}") for way in WRONG]
    most, by = max(misled)
    return (
        f"With speed and course, the errors of the next ping's forecast and of the filled gaps, all lengths alike, "
        f"change by {', '.join(gains)}. "
        + (
            f"An error gets larger by more than {100 * WORSE:g} % for {'; '.join(harmed)}"
            if harmed
            else f"No error gets larger by more than {100 * WORSE:g} %, at no horizon and in no gap, so whoever knows "
            f"them should send them"
        )
        + f"; reported wrongly, the error that changes most does so by {most:+.1f} % ({by})."
    )


def _by_weights(rows: Sequence[Row]) -> dict[tuple[str, float], dict[str, Row]]:
    """Returns the rows of the same weights and cadence, by what was reported."""
    found: dict[tuple[str, float], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row.weights, row.cadence_s), {})[row.way] = row
    return found


def _changes(row: Row, nothing: Row) -> F64:
    """Returns the changes of all errors, by HORIZONS and then by BLOCKS_S."""
    return np.asarray(np.array((*row.ahead_m, *row.gap_m)) / np.array((*nothing.ahead_m, *nothing.gap_m)) - 1)


def _forecasts(rows: Sequence[Row]) -> Table:
    columns = ("weights", "a ping every, s", "reported", *(f"{h}, m" for h in HORIZONS.values()))
    held = (f"{h}: 90 % region holds, %" for h in HORIZONS.values())
    straight = (f"{h}: straight on as reported, m" for h in HORIZONS.values())
    body = []
    for row in rows:
        shares = (100 * share for share in row.held)
        known = cells((*row.ahead_m, *shares, *row.reckoned_m))
        body.append((row.weights, f"{row.cadence_s:g}", row.way, *known))
    return Table("Forecasts", (*columns, *held, *straight), body)


def _gaps(rows: Sequence[Row]) -> Table:
    lengths = [f"{block_s / 60:g} min" for block_s in BLOCKS_S]
    columns = (
        "weights",
        "a ping every, s",
        "reported",
        *(f"{x}, m" for x in lengths),
        *(f"{x}: Hermite m" for x in lengths),
    )
    body = [(row.weights, f"{row.cadence_s:g}", row.way, *cells((*row.gap_m, *row.hermite_m))) for row in rows]
    return Table("Hidden pings", columns, body)


def _picture(rows: Sequence[Row]) -> Picture:
    lines = [
        Line(
            f"{weights}, every {cadence_s:g} s",
            list(range(4)),
            (100 * (1 + _changes(ways[BOTH], ways[NOTHING])[:4])).tolist(),
        )
        for (weights, cadence_s), ways in _by_weights(rows).items()
    ]
    even = Line("nothing reported", list(range(4)), [100.0] * 4, reference=True)
    title, y = "Forecasts that know speed and course", "error, % of that with nothing reported"
    return Picture("ahead", title, "horizon: next ping, 60 s, 5 min, 15 min", y, [*lines, even], x_ticks=range(4))
