"""Tests whether a difference between variants is larger than the noise between seeds, from their scores.

Each variant is trained with the same seeds, and a seed fixes weights and batches, so a lucky seed is lucky for all:
what remains after subtracting each seed's and each variant's own level is the noise (two-way analysis of variance
without repetition; Fisher, 1925, chapter VII).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

# Number of standard errors that is significant: the 97.5 % points of Student's t by degrees of freedom, from 1.
CERTAIN: Final = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)

Scores = Mapping[str, Sequence[float]]  # errors of each variant, one per seed


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def noise(scores: Scores) -> float:
    """Returns the largest difference between two variants' means, as a share, that chance explains."""
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
