"""Rolls predictors out along recorded tracks, as a worker would: every predictor's answer at every anchor. Metrics and
files are elsewhere.

The model folds pings through `Predictor.advance` and answers through `Predictor.forecast`: to the bit what serves. Long
tracks are processed in pieces side by side; a piece starts `history` pings early, which by the predictor's guarantee
gives the same state as the whole track.

Letters: A anchors, H questions per anchor, P pieces, K numbers of a kinematic row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import Forecasts, Predictor
from model.kinematics import motion
from model.kinematics.features import steps_between
from model.kinematics.filters import Follower
from model.kinematics.geo import E7, F64, move_deg
from train.data.anchors import Anchors
from train.data.corpus import Corpus

PIECE: Final = 1024  # pings: long enough that the extra `history` costs little, short enough to keep batches full
ROWS: Final = 512  # pieces side by side; the model's cost per ping is constant from about 256 on

PUBLISHED_S: Final = (60.0, 300.0, 900.0)  # the default horizons of a worker

MODEL: Final = "model"


class Answers(NamedTuple):
    """One predictor's forecasts as Gaussians."""

    lat: F64  # (A, H) degrees
    lon: F64  # (A, H)
    cov_m2: F64 | None  # (A, H, 3) ee, en, nn in local metres of the anchor; None for point forecasts


class PublishedRecords(NamedTuple):
    """The content of the records that a worker would publish at the anchors."""

    at_s: F64  # (A, 1 + P) seconds ahead: the expected time of the next ping, then PUBLISHED_S
    lat: F64  # (A, 1 + P) degrees
    lon: F64
    early_s: F64  # (A,) the ends of the 90 % interval of the next ping's time
    late_s: F64


class Rollout(NamedTuple):
    answers: dict[str, Answers]  # by predictor: the model first, if there is one, then the baselines
    kin: F64 | None  # (A, K) the model's rows at the anchors; None where there is no model
    next_s: F64 | None  # (A,) seconds until it expects the next ping
    fallbacks: int  # anchors at which the model's numbers were not finite, and damped constant velocity replaced them
    recorded: PublishedRecords | None = None  # None unless requested


class _Pieces(NamedTuple):
    start: NDArray[np.int64]  # (P,) first row to fold
    stop: NDArray[np.int64]  # (P,) row after the last
    ask: NDArray[np.int64]  # (P,) first row whose anchor belongs to this piece; earlier ones belong to the piece before


def roll_along(
    corpus: Corpus,
    anchors: Anchors,
    followers: Sequence[Follower],
    predictor: Predictor | None = None,
    *,
    recorded: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> Rollout:
    """Returns the answers of the filters, and of the model if `predictor` is given; with `recorded`, also what it would
    publish.
    """
    shape = anchors.dt_s.shape
    names = ([MODEL] if predictor is not None else []) + [name for one in followers for name in one.names]
    answers = {name: Answers(np.empty(shape), np.empty(shape), np.empty((*shape, 3))) for name in names}
    count = len(anchors.row)
    out = Rollout(answers, None, None, 0)
    if predictor is not None:
        out = out._replace(kin=np.empty((count, motion.WIDTH)), next_s=np.empty(count))
        if recorded:
            at_s, lat, lon = np.empty((3, count, 1 + len(PUBLISHED_S)))
            out = out._replace(recorded=PublishedRecords(at_s, lat, lon, np.empty(count), np.empty(count)))
    pieces = _pieces(corpus, history_pings(predictor))
    # longest first, so that the pieces of a batch have nearly the same length
    order = np.argsort(pieces.start - pieces.stop, kind="stable")
    total, done, fallbacks = int((pieces.stop - pieces.start).sum()), 0, 0
    for first in range(0, len(order), ROWS):
        batch = _Pieces(*(column[order[first : first + ROWS]] for column in pieces))
        fallbacks += _walk_batch(corpus, anchors, followers, predictor, batch, out)
        done += int((batch.stop - batch.start).sum())
        progress(done / total)
    return out._replace(fallbacks=fallbacks)


def history_pings(predictor: Predictor | None) -> int:
    """Returns the number of pings after which a fresh state equals that of the endless stream."""
    return 256 if predictor is None else predictor.history  # the filter's memory is far shorter than 256 pings


def _pieces(corpus: Corpus, history: int) -> _Pieces:
    start, stop, ask = [], [], []
    for first, last in corpus.tracks:
        for begin in range(first, last, PIECE):
            start.append(max(first, begin - history))
            stop.append(min(last, begin + PIECE))
            ask.append(begin)
    return _Pieces(np.array(start, np.int64), np.array(stop, np.int64), np.array(ask, np.int64))


def _walk_batch(
    corpus: Corpus,
    anchors: Anchors,
    followers: Sequence[Follower],
    predictor: Predictor | None,
    batch: _Pieces,
    out: Rollout,
) -> int:
    """Processes the pieces of one batch, longest first, and writes the answers at their anchors in place; returns the
    number of fallbacks.
    """
    slots = None if predictor is None else predictor.acquire(len(batch.start))
    states = [follower.fresh(len(batch.start)) for follower in followers]
    length, fallbacks = batch.stop - batch.start, 0
    last = corpus.fixes(batch.start)
    for step in range(int(length[0])):
        going = int(np.searchsorted(-length, -step, side="left"))  # the pieces are sorted, longest first
        row = batch.start[:going] + step
        fix = corpus.fixes(row)
        if step:
            dt_s, d_en = steps_between(last[:going], fix)
            for follower, state in zip(followers, states, strict=True):
                state[:going] = follower.fold(state[:going], dt_s, d_en)
        last[:going] = fix
        if predictor is not None and slots is not None:
            predictor.advance(slots[:going], fix)
        index = np.minimum(np.searchsorted(anchors.row, row), len(anchors.row) - 1)
        asked = np.flatnonzero((anchors.row[index] == row) & (row >= batch.ask[:going]))
        if len(asked) == 0:
            continue
        index = index[asked]
        lat_deg, lon_deg = (fix[name][asked, None] / E7 for name in ("lat_e7", "lon_e7"))
        for follower, state in zip(followers, states, strict=True):
            for name, found in follower.after(state[asked], anchors.dt_s[index]).items():
                _write_answers(out.answers[name], index, *move_deg(lat_deg, lon_deg, found.mean_en), found.cov_m2)
        if predictor is not None and slots is not None:
            forecasts = _ask(predictor, slots[asked], anchors.dt_s[index], index, out.recorded)
            asked_for = slice(0, anchors.dt_s.shape[1])
            places = (forecasts.lat, forecasts.lon, forecasts.cov_m2)
            _write_answers(out.answers[MODEL], index, *(place[:, asked_for] for place in places))
            assert out.kin is not None
            assert out.next_s is not None
            out.kin[index], out.next_s[index] = predictor.moment(slots[asked]).kin, forecasts.next_dt_s
            fallbacks += int(forecasts.fallback.sum())
    if predictor is not None and slots is not None:
        predictor.release(slots)
    return fallbacks


def _ask(
    predictor: Predictor,
    slots: NDArray[np.int64],
    dt_s: F64,
    index: NDArray[np.int64],
    recorded: PublishedRecords | None,
) -> Forecasts:
    """Returns the model's forecasts, whose first columns are for `dt_s` (N, H); writes what it would publish in
    place.
    """
    if recorded is None:
        return predictor.forecast(slots, dt_s)
    asked, published = dt_s.shape[1], np.tile(PUBLISHED_S, (len(dt_s), 1))
    said = predictor.forecast(slots, np.concatenate([dt_s, published], axis=1))
    recorded.at_s[index] = np.column_stack([said.next_dt_s, published])
    recorded.lat[index] = np.column_stack([said.next_lat, said.lat[:, asked:]])
    recorded.lon[index] = np.column_stack([said.next_lon, said.lon[:, asked:]])
    recorded.early_s[index], recorded.late_s[index] = said.next_early_s, said.next_late_s
    return said


def _write_answers(out: Answers, index: NDArray[np.int64], lat: F64, lon: F64, cov_m2: F64) -> None:
    """Writes answers in place."""
    assert out.cov_m2 is not None  # all predictors of a rollout have covariances
    out.lat[index], out.lon[index], out.cov_m2[index] = lat, lon, cov_m2
