"""Asks models that cannot be served the questions of the evaluation, in one full pass per track.

It uses the same tracks, anchors and targets as `train.evaluation.forecasts`, and, where no track is longer than the
pass, finds the same errors: a full pass with the attention window equals the stream. It computes no confidence
intervals, but compares variants by the noise between seeds.

Shapes: R rows (tracks), T tokens, A anchors (n of some), H = 1 + horizons (column 0 is the next ping), C = config.d,
K = motion.WIDTH.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.kinematics import baselines, features, queries
from model.kinematics.geo import F64, haversine_m, move_deg
from model.network.heads import Spread, combine
from model.network.network import Network, to_tensors
from stream.adapters.sources import Source
from train.data import anchors as anchoring
from train.data.anchors import Anchors
from train.data.corpus import Corpus, load
from train.data.cutting import EVALUATION
from train.data.splits import split
from train.experiments.lab.lab import Lab

COLUMNS: Final = ("next", *(f"{horizon:g} s" for horizon in anchoring.HORIZONS_S))
LONGEST: Final = 640  # tokens of a pass; longer tracks are cut into several, each starting anew
PASS_TOKENS: Final = 8_192  # tokens of all tracks in one pass, padding included
ANCHORS: Final = 128  # at a time: distributions over cells of more would be gigabytes
# Number of standard errors that is significant: the 97.5 % points of Student's t by degrees of freedom, from 1.
CERTAIN: Final = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)

Rows = NDArray[np.int64]
# Returns hidden vectors (R, T, C) and kinematic rows (R, T, K) of whole sequences (R, T) of FIX records.
Read = Callable[[NDArray[Any]], tuple[Tensor, F64]]
Scores = Mapping[str, Sequence[float]]  # errors of each variant, one per seed


class Exam(NamedTuple):
    """Tracks of at most LONGEST pings, and the questions about them."""

    corpus: Corpus
    anchors: Anchors

    @property
    def token(self) -> Rows:
        """Returns the index of each anchor's token (A,): the number of earlier pings in its track."""
        return np.asarray(self.anchors.row - self.corpus.tracks[self.anchors.track, 0])

    @property
    def truth(self) -> tuple[F64, F64]:
        """Returns the degrees of the targets (A, H); NaN where there is none."""
        target = self.anchors.target
        lat, lon = (np.where(target >= 0, column[target], np.nan) for column in (self.corpus.lat, self.corpus.lon))
        return lat, lon

    def keep(self, chosen: NDArray[Any]) -> Exam:
        """Returns the same tracks with fewer questions; `chosen` is a mask (A,) or indices."""
        return Exam(self.corpus, Anchors(*(column[chosen] for column in self.anchors)))

    def places(self, en_m: F64) -> tuple[F64, F64]:
        """Returns the degrees (A, H) of positions (A, H, 2) in metres from the anchors."""
        row = self.anchors.row[:, None]
        return move_deg(self.corpus.lat[row], self.corpus.lon[row], en_m)

    def errors(self, mean_en: F64) -> Marks:
        """Returns the great-circle distances of positions (A, H, 2), in metres from the anchors, to the targets."""
        return Marks(haversine_m(*self.places(mean_en), *self.truth))


class Marks(NamedTuple):
    """The errors of every question (A, H); NaN where there is no target or no answer."""

    error_m: F64

    def mean_m(self, chosen: NDArray[np.bool_] | None = None) -> list[float]:
        """Returns the mean error per column, of the chosen anchors; NaN for a column without any."""
        error = self.error_m if chosen is None else self.error_m[chosen]
        return [float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else np.nan for column in error.T]


class Hidden(NamedTuple):
    """A model's vectors at some anchors."""

    anchor: Rows  # (n,) numbers of the anchors
    fixes: NDArray[Any]  # (n,) FIX
    vector: Tensor  # (n, C)
    kin: F64  # (n, K)


def load_exam_tracks(lab: Lab, file: Source, most: int | None = None) -> Corpus:
    """Loads the test tracks of one file that are evaluated, reduced to about `most` anchors."""
    corpus = anchoring.keep_long(split(load([file], lab.cache, cut=EVALUATION)).test)
    if not len(corpus):
        raise ValueError(f"{file}: no test track has {anchoring.EARLIER_PINGS + 2} pings without a long silence")
    return anchoring.take_every_nth(corpus, most)[0]


def pose_questions(corpus: Corpus) -> Exam:
    """Returns every question of the protocol about these tracks, cut to the length of one pass."""
    starts = [np.arange(first, last, LONGEST) for first, last in corpus.tracks]
    of = np.repeat(np.arange(len(corpus)), [len(start) for start in starts])
    first = np.concatenate(starts)
    corpus = corpus.cut(np.stack([first, np.minimum(first + LONGEST, corpus.tracks[of, 1])], axis=1), of)
    corpus = anchoring.keep_long(corpus)
    return Exam(corpus, anchoring.find_anchors(corpus))


def examine(network: Network, exam: Exam, *, longest: int = LONGEST) -> Marks:
    """Returns the errors of these weights; tokens from index `longest` on are not processed and have NaN."""
    return exam.errors(forecast(network, exam, longest=longest)[0])


@torch.inference_mode()
def forecast(network: Network, exam: Exam, *, longest: int = LONGEST) -> tuple[F64, F64]:
    """Returns means (A, H, 2) in metres from the anchors, and covariances (A, H, 3); NaN where there is no answer."""
    shape = exam.anchors.dt_s.shape
    mean, cov = np.full((*shape, 2), np.nan), np.full((*shape, 3), np.nan)
    for hidden in read_anchors(partial(read, network), exam, patch=network.config.patch, longest=longest):
        spread = forecast_anchors(network, hidden, exam.anchors.dt_s[hidden.anchor])
        mean[hidden.anchor], cov[hidden.anchor] = spread.mean_en.numpy(), spread.cov_m2.numpy()
    return mean, cov


@torch.inference_mode()
def read_anchors(read: Read, exam: Exam, *, patch: int = 1, longest: int = LONGEST) -> Iterator[Hidden]:
    """Yields the hidden vectors of the anchors, some at a time. Where a token is a patch of pings, only anchors that
    are the last ping of one have a vector.
    """
    corpus, anchors = exam.corpus, exam.anchors
    for tracks in _plan_passes(corpus):
        asks = np.isin(anchors.track, tracks) & (exam.token < longest) & (exam.token % patch == patch - 1)
        which = np.flatnonzero(asks)
        if not len(which):
            continue
        bounds = corpus.tracks[tracks]
        length = min(int((bounds[:, 1] - bounds[:, 0]).max()), longest)
        places = np.arange(-(-length // patch) * patch)
        fixes = corpus.fixes(np.minimum(bounds[:, :1] + places, bounds[:, 1:] - 1))
        vectors, kin = read(fixes)
        row, token = np.searchsorted(tracks, anchors.track[which]), exam.token[which]
        vector = vectors[torch.from_numpy(row), torch.from_numpy(token // patch)]
        for first in range(0, len(which), ANCHORS):
            some = slice(first, first + ANCHORS)
            at = row[some], token[some]
            yield Hidden(which[some], fixes[at], vector[some], kin[at])


def read(network: Network, fixes: NDArray[Any]) -> tuple[Tensor, F64]:
    """Reads whole sequences with a network, as `Read`."""
    kin = baselines.scan_fixes(fixes, network.config)
    x = torch.from_numpy(features.encode(kin, features.context(fixes), network.config))
    time_ms = torch.from_numpy(np.array(fixes["ts_ms"]))
    return network.trunk(x, network.locate(fixes), time_ms)[0], kin


def forecast_anchors(network: Network, hidden: Hidden, dt_s: F64) -> Spread:
    """Forecasts dt_s (n, H) seconds after anchors."""
    at_en = queries.from_origin(hidden.fixes, network.config)
    context = features.context(hidden.fixes)
    question = to_tensors(queries.forecast(hidden.kin, dt_s, network.config, at_en, context=context), torch.float64)
    return combine(network.forecast(hidden.vector, question.features), question)


def _plan_passes(corpus: Corpus) -> Iterator[Rows]:
    """Yields sorted tracks for one pass: they have similar lengths, so that little is padding."""
    length = corpus.lengths
    order, first = np.argsort(-length, kind="stable"), 0
    while first < len(order):
        rows = order[first : first + max(1, PASS_TOKENS // int(length[order[first]]))]
        yield np.sort(rows)
        first += len(rows)


def shorten(corpus: Corpus, chosen: NDArray[np.int64], pings: NDArray[np.int64] | int) -> Corpus:
    """Returns the first `pings` of some tracks."""
    tracks = corpus.tracks[chosen]
    tracks[:, 1] = tracks[:, 0] + pings
    return replace(corpus.select(chosen), tracks=tracks)


def geometric_mean(values: Sequence[float]) -> float:
    """Returns the geometric mean of positive errors in metres, so that each horizon has the same weight; NaN are left
    out.
    """
    return float(np.exp(np.nanmean(np.log(values))))


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def noise(scores: Scores) -> float:
    """Returns the largest difference between two variants' means, as a share, that chance explains.

    Each variant is trained with the same seeds, and a seed fixes weights and batches, so a lucky seed is lucky for all:
    what remains after subtracting each seed's and each variant's own level is the noise (two-way analysis of variance
    without repetition; Fisher, 1925, chapter VII).
    """
    log = np.log(np.array([list(values) for values in scores.values()], dtype=np.float64))
    variants, repeats = log.shape
    if variants < 2 or repeats < 2:
        raise ValueError(f"noise needs two variants and two seeds, got {variants} and {repeats}")
    left = log - log.mean(1, keepdims=True) - log.mean(0, keepdims=True) + log.mean()
    freedom = (variants - 1) * (repeats - 1)
    certain = CERTAIN[min(freedom, len(CERTAIN)) - 1]
    return float(np.expm1(certain * np.sqrt(2 * float((left**2).sum()) / freedom / repeats)))


def best(scores: Scores) -> str:
    """Returns the variant with the lowest mean error; of equal ones the first."""
    return min(scores, key=lambda name: mean(scores[name]))


def compare(scores: Scores, name: str, over: str) -> str:
    """Compares `name` with `over` in words: "3.1 % better than x", or that the difference is within seed noise."""
    gain, chance = 1.0 - mean(scores[name]) / mean(scores[over]), noise(scores)
    how = f"{100 * abs(gain):.1f} % {'better' if gain >= 0 else 'worse'} than {over}"
    return how if abs(gain) > chance else f"{how}, which is within the seed noise of {100 * chance:.1f} %"
