"""Evaluates arrivals: when an entity that is on its way is at a place where it does go, and how likely it is inside a
circle at the horizons of its forecast. Prints nothing.

A question is an anchor and a place where its track is AHEAD_S later, at the ping that comes next then. The entity has
arrived when it is RADIUS_M from there, on the straight lines between its pings; until then it may go anywhere. Known
are the forecast, and the fleet's pings of before the last midnight (UTC). Places are at random times, so short and long
ways count alike. What is told is told as `pathcast arrivals` tells it: provided that the entity goes there.

A circle for the second question has its middle off the forecast by a random part of its spread, and a random radius, so
that all chances occur. Circles do not depend on what then happened.

Letters: A anchors, N questions, K knots of a forecast's path.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Predictor
from model.arrivals import times
from model.arrivals.believing import believe, first_inside
from model.arrivals.passages import DAY_MS, Like, Passages
from model.arrivals.regions import circle_chance
from model.arrivals.times import MEDIAN, Belief, Times
from model.kinematics.geo import F64, M_PER_DEG, cos_lat
from train.data.anchors import HORIZONS_S, Anchors, find_anchors
from train.data.corpus import Corpus
from train.data.splits import is_held_back
from train.evaluation.forecasts import Progress, Sample, describe_sample
from train.evaluation.metrics import score_times
from train.evaluation.rollout import MODEL, Rollout, roll_along

RADIUS_M: Final = 150.0
AHEAD_S: Final = (120.0, 2_700.0)
BANDS_MIN: Final = ((0.0, 5.0), (5.0, 15.0), (15.0, np.inf))  # of the true time
MOST_HISTORY: Final = 1_500_000  # pings, the newest
STEPS: Final = 10  # of chances, for their reliability
ARRIVALS, ALONE, PASSAGES, SPEED = "arrivals", "forecast_alone", "passages_median", "median_speed"
I64 = NDArray[np.int64]


class Questions(NamedTuple):
    """N questions; metres are east and north of the anchor's fix."""

    anchor: I64  # (N,) number of the anchor
    lat: F64  # (N,) degrees of the place
    lon: F64
    place_m: F64  # (N, 2)
    seconds: F64  # (N,) until the entity is there
    distance_m: F64  # (N,) from the anchor to the edge


class Ends(NamedTuple):
    """Seconds (N,) until the entities are there: the median, and the ends of the 90 % interval."""

    median_s: F64
    low_s: F64
    high_s: F64


class KnownAtAnchor(NamedTuple):
    """The knowledge at the time of each question: the forecast's path, and earlier passages."""

    path_s: F64  # (N,)
    like: list[Like | None]


def judge_arrivals(
    sample: Sample,
    predictor: Predictor | None,
    *,
    progress: Progress = lambda share: None,
) -> dict[str, Any]:
    """Returns scores as plain data for JSON: `predictors.<name>`, `bands.<minutes>.<name>` by the true time, and
    `geofences`: for each step of the chance, how often the entity was inside.

    Raises ValueError without a model, whose forecasts are judged, or without a question.
    """
    if predictor is None:
        raise ValueError("arrivals are told from forecasts: give --weights")
    corpus = sample.corpus
    anchors = find_anchors(corpus)
    walked = roll_along(corpus, anchors, [], predictor, recorded=True, progress=progress)
    asked = pose_questions(corpus, anchors)
    if not len(asked.seconds):
        raise ValueError(f"{sample.file}: no track goes on for {AHEAD_S[0]:g} s and farther than {RADIUS_M:g} m")
    assert sample.fleet is not None  # set by open_samples
    history = build_history(sample.fleet.select(~is_held_back(sample.fleet)))
    known = gather_known(corpus, anchors, walked, asked, history)
    # Of tracks that are not judged, as baselines are fitted. Where all are, their few coefficients are of all.
    belief = believe(history if sample.train is None else build_history(sample.train))
    answers = _answer_all(asked, known, belief)
    everything = np.ones(len(asked.seconds), bool)
    entity = corpus.entity[anchors.track[asked.anchor]]
    bands = {_band_name(*band): _within(asked.seconds, *band) for band in BANDS_MIN}
    scores = {
        name: _scores(asked, entity, answers, mask) for name, mask in {"all": everything, **bands}.items() if mask.any()
    }
    return {
        **describe_sample(sample),
        "trips": len(asked.seconds),
        "passages_known": float(np.mean([one is not None for one in known.like])),
        "history_pings": len(history),
        "predictors": scores.pop("all"),
        "bands": scores,
        "geofences": judge_circles(corpus, anchors, walked),
    }


def pose_questions(corpus: Corpus, anchors: Anchors) -> Questions:
    """Returns one question for each anchor whose track goes on for long enough, and is not there already."""
    rng = np.random.default_rng(0)
    low, high = np.log(AHEAD_S)
    ahead_s = np.exp(rng.uniform(low, high, len(anchors.row)))
    stop = corpus.tracks[anchors.track, 1]
    found = []
    for of, (row, end, wait_s) in enumerate(zip(anchors.row, stop, ahead_s, strict=True)):
        times_ms = np.asarray(corpus.ts_ms[row:end])
        there = int(np.searchsorted(times_ms, times_ms[0] + 1000 * wait_s))
        if there >= len(times_ms):
            continue
        way = _metres(corpus, row, slice(row, row + there + 1))
        first_s = first_inside(way, (times_ms[: there + 1] - times_ms[0]) / 1000.0, way[-1], RADIUS_M)
        if first_s > 0:
            place = way[-1]
            edge_m = float(np.hypot(*place)) - RADIUS_M
            found.append((of, corpus.lat[row + there], corpus.lon[row + there], *place, first_s, edge_m))
    number, lat, lon, east, north, seconds, edge = np.array(found, np.float64).reshape(-1, 7).T
    return Questions(number.astype(np.int64), lat, lon, np.stack([east, north], axis=-1), seconds, edge)


def build_history(fleet: Corpus, most: int = MOST_HISTORY) -> Passages:
    """Returns the passages of the newest `most` pings of a fleet."""
    begin_ms = np.asarray(fleet.ts_ms[fleet.tracks[:, 0]])
    order = np.argsort(-begin_ms, kind="stable")
    kept = order[np.cumsum(fleet.lengths[order]) <= most]
    fleet = fleet.select(np.sort(kept))
    length = fleet.lengths
    rows = fleet.rows
    begins = np.zeros(len(rows), bool)
    begins[np.cumsum(length) - length] = True
    return Passages(fleet.ts_ms[rows], fleet.lat[rows], fleet.lon[rows], begins, np.repeat(fleet.entity, length))


def gather_known(
    corpus: Corpus, anchors: Anchors, walked: Rollout, asked: Questions, history: Passages
) -> KnownAtAnchor:
    """Returns what the forecasts, and the fleet up to the last midnight, say of each question."""
    knots_s, path_m = forecast_paths(corpus, anchors, walked, asked.anchor)
    away = np.linalg.norm(path_m - asked.place_m[:, None], axis=-1) - RADIUS_M
    like = []
    for number, (row, lat, lon) in enumerate(zip(anchors.row[asked.anchor], asked.lat, asked.lon, strict=True)):
        ts_ms = int(corpus.ts_ms[row])
        start = history.metres(corpus.lat[row], corpus.lon[row])
        end, velocity = history.metres(lat, lon), path_m[number, 1] / knots_s[1]
        like.append(history.between(start, end, RADIUS_M, velocity, ts_ms, before_ms=ts_ms // DAY_MS * DAY_MS))
    return KnownAtAnchor(times.path_s(knots_s, away), like)


def forecast_paths(corpus: Corpus, anchors: Anchors, walked: Rollout, which: I64) -> tuple[F64, F64]:
    """Returns the knots of the forecasts' paths: their seconds (K,), and their places (N, K, 2) in metres from the
    anchors."""
    recorded = walked.recorded
    assert recorded is not None
    rows = anchors.row[which]
    lat0, lon0 = np.asarray(corpus.lat[rows]), np.asarray(corpus.lon[rows])
    place = _offset_m(lat0[:, None], lon0[:, None], recorded.lat[which, 1:], recorded.lon[which, 1:])
    knots_s = np.array([0.0, *recorded.at_s[0, 1:]])
    return knots_s, np.concatenate([np.zeros((len(rows), 1, 2)), place], axis=1)


def judge_circles(corpus: Corpus, anchors: Anchors, walked: Rollout) -> dict[str, list[dict[str, float]]]:
    """Returns for each horizon, by steps of the chance of being inside a circle: how many circles there were, their
    mean chance, and the share of them in which the entity was."""
    rng = np.random.default_rng(0)
    answer, found = walked.answers[MODEL], {}
    assert answer.cov_m2 is not None
    for column, horizon_s in enumerate(HORIZONS_S, start=1):
        asked = np.flatnonzero(anchors.target[:, column] >= 0)
        row, target = anchors.row[asked], anchors.target[asked, column]
        lat0, lon0 = np.asarray(corpus.lat[row]), np.asarray(corpus.lon[row])
        mean = _offset_m(lat0, lon0, answer.lat[asked, column], answer.lon[asked, column])
        true = _offset_m(lat0, lon0, np.asarray(corpus.lat[target]), np.asarray(corpus.lon[target]))
        cov = answer.cov_m2[asked, column]
        sigma = np.sqrt((cov[:, 0] + cov[:, 2]) / 2)
        middle = mean + sigma[:, None] * rng.normal(size=mean.shape)
        radius = sigma * np.exp(rng.uniform(np.log(0.3), np.log(3.0), len(sigma)))
        chance = np.array(
            [circle_chance(m, r, x[None], c[None])[0] for m, r, x, c in zip(middle, radius, mean, cov, strict=True)]
        )
        inside = np.linalg.norm(true - middle, axis=-1) <= radius
        step = np.minimum((chance * STEPS).astype(int), STEPS - 1)
        found[f"{horizon_s:g}"] = [
            {
                "from": number / STEPS,
                "n": int((step == number).sum()),
                "chance": float(chance[step == number].mean()),
                "inside": float(inside[step == number].mean()),
            }
            for number in range(STEPS)
            if (step == number).any()
        ]
    return found


def _answer_all(asked: Questions, known: KnownAtAnchor, belief: Belief) -> dict[str, Times | Ends]:
    none: list[Like | None] = [None] * len(asked.seconds)
    speed_mps = float(np.median((asked.distance_m + RADIUS_M) / asked.seconds))  # of the judged themselves: it flatters
    straight = np.maximum(asked.distance_m, 0.0) / speed_mps + 1.0
    ratio = np.quantile(asked.seconds / straight, [0.05, 0.95])
    half = [straight[i] if one is None else one.at(np.array([0.5]))[0] for i, one in enumerate(known.like)]
    ends = [ratio * straight[i] if one is None else one.at(np.array([0.05, 0.95])) for i, one in enumerate(known.like)]
    low, high = np.array(ends).T
    return {
        ARRIVALS: times.arrive(asked.distance_m, known.path_s, known.like, belief),
        ALONE: times.arrive(asked.distance_m, known.path_s, none, belief),
        PASSAGES: Ends(np.array(half), low, high),
        SPEED: Ends(straight, ratio[0] * straight, ratio[1] * straight),
    }


def _scores(
    asked: Questions, entity: NDArray[Any], answers: dict[str, Times | Ends], mask: NDArray[np.bool_]
) -> dict[str, Any]:
    found = {}
    for name, answer in answers.items():
        of = (asked.seconds[mask], *(one[mask] for one in _columns(answer)), entity[mask])
        found[name] = score_times(*of)._asdict()
        if isinstance(answer, Times):
            low, high = answer.seconds[mask, 1], answer.seconds[mask, -2]
            found[name]["coverage_80"] = float(((low <= of[0]) & (of[0] <= high)).mean())
    return found


def _columns(answer: Times | Ends) -> tuple[F64, F64, F64]:
    if isinstance(answer, Times):
        return answer.seconds[:, MEDIAN], answer.seconds[:, 0], answer.seconds[:, -1]
    return answer


def _metres(corpus: Corpus, row: int, rows: slice) -> F64:
    return _offset_m(corpus.lat[row], corpus.lon[row], np.asarray(corpus.lat[rows]), np.asarray(corpus.lon[rows]))


def _offset_m(lat0: Any, lon0: Any, lat: F64, lon: F64) -> F64:
    east = (lon - lon0 + 180.0) % 360.0 - 180.0
    return np.stack([east * M_PER_DEG * cos_lat(np.asarray(lat0)), (lat - lat0) * M_PER_DEG], axis=-1)


def _within(seconds: F64, low_min: float, high_min: float) -> NDArray[np.bool_]:
    return np.asarray((seconds >= 60 * low_min) & (seconds < 60 * high_min))


def _band_name(low_min: float, high_min: float) -> str:
    return f"{low_min:g}-{high_min:g} min" if high_min < np.inf else f"over {low_min:g} min"
