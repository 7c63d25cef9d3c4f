"""Answers the questions of the evaluation in one full pass per track: for weights that cannot be served, and for faster
evaluations.

It uses the same tracks, anchors and targets as `train.evaluation.forecasts`, and, where no track is longer than the
pass, finds the same errors: a full pass with the attention window equals the stream. It computes no confidence
intervals.

Shapes: R rows (tracks), T tokens, A anchors, H = 1 + horizons (column 0 is the next ping).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model.kinematics.geo import F64, displacement_m
from model.network.network import Network
from stream.adapters.sources import Source
from train.data import anchors as anchoring
from train.data.anchors import Anchors
from train.data.corpus import Corpus, load
from train.data.cutting import EVALUATION
from train.data.splits import split
from train.experiments.lab.lab import Lab
from train.experiments.lab.windows import answer, read

COLUMNS: Final = ("next", *(f"{horizon:g} s" for horizon in anchoring.HORIZONS_S))
LONGEST: Final = 640  # tokens of a pass; longer tracks are cut into several, each starting anew
PASS_TOKENS: Final = 8_192  # tokens of all tracks in one pass, padding included

Rows = NDArray[np.int64]


class Exam(NamedTuple):
    """Tracks of at most LONGEST pings, and the questions about them."""

    corpus: Corpus
    anchors: Anchors

    @property
    def token(self) -> Rows:
        """Returns the index of each anchor's token (A,): the number of earlier pings in its track."""
        return np.asarray(self.anchors.row - self.corpus.tracks[self.anchors.track, 0])


class Marks(NamedTuple):
    """The errors of every question (A, H); NaN where there is no target or no answer."""

    error_m: F64

    def mean_m(self, chosen: NDArray[np.bool_] | None = None) -> list[float]:
        """Returns the mean error per column, of the chosen anchors; NaN for a column without any."""
        error = self.error_m if chosen is None else self.error_m[chosen]
        return [float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else np.nan for column in error.T]


def judged_tracks(lab: Lab, file: Source, most: int | None = None) -> Corpus:
    """Returns the test tracks of one file that are evaluated, reduced to about `most` anchors."""
    corpus = anchoring.usable(split(load([file], lab.cache, cut=EVALUATION)).test)
    if not len(corpus):
        raise ValueError(f"{file}: no test track has {anchoring.EARLIER_PINGS + 2} pings without a long silence")
    return anchoring.thin(corpus, most)[0]


def some(corpus: Corpus, most_pings: int) -> Corpus:
    """Returns every n-th track, so that about `most_pings` are left."""
    return corpus.select(np.arange(0, len(corpus), -(-corpus.pings // most_pings)))


def ask(corpus: Corpus) -> Exam:
    """Returns every question of the protocol about these tracks, cut to the length of one pass."""
    corpus = anchoring.usable(_pieces(corpus))
    return Exam(corpus, anchoring.find(corpus))


def irregular(corpus: Corpus, keep: float = 0.5, seed: int = 0) -> Corpus:
    """Returns the same tracks with each ping kept with that chance: another cadence, with unequal intervals."""
    return corpus.keep(np.flatnonzero(np.random.default_rng(seed).random(len(corpus.ts_ms)) < keep))


@torch.inference_mode()
def sit(network: Network, exam: Exam, *, longest: int = LONGEST) -> Marks:
    """Returns the errors of these weights; tokens from index `longest` on are not processed and have NaN."""
    corpus, anchors = exam.corpus, exam.anchors
    error_m = np.full(anchors.dt_s.shape, np.nan)
    for tracks in _passes(corpus):
        which = np.flatnonzero(np.isin(anchors.track, tracks) & (exam.token < longest))
        if not len(which):
            continue
        bounds = corpus.tracks[tracks]
        length = min(int((bounds[:, 1] - bounds[:, 0]).max()), longest)
        fixes = corpus.fixes(np.minimum(bounds[:, :1] + np.arange(length), bounds[:, 1:] - 1))
        hidden, kin = read(network, fixes)
        row, token = np.searchsorted(tracks, anchors.track[which]), exam.token[which]
        fix, there = fixes[row, token], corpus.fixes(anchors.target[which])
        truth = displacement_m(fix["lat_e7"][:, None], fix["lon_e7"][:, None], there["lat_e7"], there["lon_e7"])
        anchor = hidden[torch.from_numpy(row), torch.from_numpy(token)]
        spread = answer(network, anchor, kin[row, token], fix, anchors.dt_s[which])
        error_m[which] = np.hypot(*np.moveaxis(truth - spread.mean_en.numpy(), -1, 0))
    return Marks(np.where(anchors.target < 0, np.nan, error_m))


def _passes(corpus: Corpus) -> Iterator[Rows]:
    """Yields sorted tracks for one pass: they have similar lengths, so that little is padding."""
    length = corpus.tracks[:, 1] - corpus.tracks[:, 0]
    order, first = np.argsort(-length, kind="stable"), 0
    while first < len(order):
        rows = order[first : first + max(1, PASS_TOKENS // int(length[order[first]]))]
        yield np.sort(rows)
        first += len(rows)


def _pieces(corpus: Corpus) -> Corpus:
    starts = [np.arange(first, last, LONGEST) for first, last in corpus.tracks]
    of = np.repeat(np.arange(len(corpus)), [len(start) for start in starts])
    first = np.concatenate(starts)
    tracks = np.stack([first, np.minimum(first + LONGEST, corpus.tracks[of, 1])], axis=1)
    return corpus.cut(tracks, of)


def geometric_mean(values: Sequence[float]) -> float:
    """Returns the geometric mean of positive errors in metres, so that each horizon has the same weight; NaN are left
    out.
    """
    return float(np.exp(np.nanmean(np.log(values))))


# Number of standard errors that is significant: the 97.5 % points of Student's t by degrees of freedom, from 1.
CERTAIN: Final = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)

Scores = Mapping[str, Sequence[float]]  # errors of each variant, one per seed


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


def gain(scores: Scores, name: str, over: str) -> float:
    """Returns by which share the error of `name` is lower than that of `over`; negative where it is higher."""
    return 1.0 - mean(scores[name]) / mean(scores[over])


def best(scores: Scores) -> str:
    """Returns the variant with the lowest mean error; of equal ones the first."""
    return min(scores, key=lambda name: mean(scores[name]))


def compare(scores: Scores, name: str, over: str) -> str:
    """Compares `name` with `over` in words: "3.1 % better than x", or that the difference is within seed noise."""
    won, chance = gain(scores, name, over), noise(scores)
    how = f"{100 * abs(won):.1f} % {'better' if won >= 0 else 'worse'} than {over}"
    return how if abs(won) > chance else f"{how}, which is within the seed noise of {100 * chance:.1f} %"
