"""Scores of answers: the benchmark of TransitApp, errors and intervals by lead, and paired differences.

The benchmark (TransitApp, ETA Accuracy Benchmark): the share of answers of which the bus came at most so much earlier,
and at most so much later, than told; by the time until it truly came, and the plain mean of the four shares.

Letters: Q questions, of R rides; B samples.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BOUNDS_S: Final = ((0, 180, 30, 90), (180, 360, 60, 150), (360, 600, 60, 210), (600, 900, 90, 270))
LEADS_S: Final = ((0, 180), (180, 360), (360, 600), (600, 900), (900, 1_800))
SAMPLES: Final = 1_000
SEED: Final = 7


def score(lead_Q: Floats, error_Q: Floats, holds_Q: NDArray[np.bool_] | None, ride_Q: Ints) -> dict[str, Any]:
    """Returns the scores of one method.

    Args:
        lead_Q: seconds until the bus truly came.
        error_Q: seconds that it came later than told; NaN where nothing was answered, which counts as inaccurate.
        holds_Q: whether it came within the 90 % interval; None for a method that gives none.
        ride_Q: of which ride each question is: intervals of 95 % are of rides drawn anew.
    """
    shares = []
    for begin, end, early_s, late_s in BOUNDS_S:
        errors = error_Q[(lead_Q >= begin) & (lead_Q < end)]
        shares.append(float(((errors >= -early_s) & (errors <= late_s)).mean()) if len(errors) else float("nan"))
    by_lead = [_score_lead(begin, end, lead_Q, error_Q, holds_Q, ride_Q) for begin, end in LEADS_S]
    answered = float((~np.isnan(error_Q)).mean()) if len(error_Q) else 0.0
    known = [share for share in shares if not np.isnan(share)]
    return {
        "benchmark": sum(known) / len(known) if known else None,
        "accurate": [None if np.isnan(share) else share for share in shares],
        "answered": answered,
        "leads": by_lead,
    }


def _score_lead(
    begin: int, end: int, lead_Q: Floats, error_Q: Floats, holds_Q: NDArray[np.bool_] | None, ride_Q: Ints
) -> dict[str, Any]:
    chosen = (lead_Q >= begin) & (lead_Q < end) & ~np.isnan(error_Q)
    errors = error_Q[chosen]
    if not len(errors):
        return {"from_s": begin, "to_s": end, "n": 0}
    low, high = interval_of_mean(np.abs(errors), ride_Q[chosen])
    return {
        "from_s": begin,
        "to_s": end,
        "n": len(errors),
        "mean_s": float(np.abs(errors).mean()),
        "mean_low_s": low,
        "mean_high_s": high,
        "median_s": float(np.median(np.abs(errors))),
        "bias_s": float(errors.mean()),
        "held_90": None if holds_Q is None else float(holds_Q[chosen].mean()),
    }


def compare(lead_Q: Floats, ours_Q: Floats, theirs_Q: Floats, ride_Q: Ints) -> list[dict[str, Any]]:
    """Returns by lead how much larger the other method's mean error is, on questions that both answered, in seconds,
    with the 95 % interval of rides drawn anew: above 0 where it is certain that ours is nearer."""
    found: list[dict[str, Any]] = []
    for begin, end in LEADS_S:
        chosen = (lead_Q >= begin) & (lead_Q < end) & ~np.isnan(ours_Q) & ~np.isnan(theirs_Q)
        more = np.abs(theirs_Q[chosen]) - np.abs(ours_Q[chosen])
        if not len(more):
            found.append({"from_s": begin, "to_s": end, "n": 0})
            continue
        low, high = interval_of_mean(more, ride_Q[chosen])
        found.append(
            {"from_s": begin, "to_s": end, "n": len(more), "more_s": float(more.mean()), "low_s": low, "high_s": high}
        )
    return found


def interval_of_mean(value_Q: Floats, ride_Q: Ints) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of values, from rides drawn anew with all of their values."""
    _, numbers = np.unique(ride_Q, return_inverse=True)
    sum_R, count_R = np.bincount(numbers, value_Q), np.bincount(numbers).astype(float)
    draws_BR = np.random.default_rng(SEED).multinomial(len(sum_R), np.full(len(sum_R), 1 / len(sum_R)), SAMPLES)
    means_B = draws_BR @ sum_R / np.maximum(draws_BR @ count_R, 1)
    low, high = np.quantile(means_B, (0.025, 0.975))
    return float(low), float(high)
