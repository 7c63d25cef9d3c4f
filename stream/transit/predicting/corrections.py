"""Learns from answers of before: how far off they were, by what was known, and how wide intervals have to be.

A regression of the error on some numbers (`asking`), whose weights change with the time ahead, piecewise linearly
between KNOTS_S: so one model answers for the next stop and for the last. It is fitted to a quantile of the
errors, by least squares with weights (iteratively reweighted, Schlossmacher 1973), as long delays are rare and count
little where a mean error is asked for. Beside it, histograms of what it left over, by the time ahead, are where the
ends of the intervals come from: as wide as earlier errors were (split conformal prediction, Vovk).

Letters: B rows, F numbers of a row, K knots, S the state (0 before departure, 1 under way), C cells.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KNOTS_S: Final = np.array([-180.0, -60.0, 0.0, 60.0, 150.0, 300.0, 500.0, 800.0, 1_200.0, 1_800.0])
STATES: Final = 2
# Which quantile of the errors a point is, by knot. Near stops are told early rather than late, as a rider who comes too
# late has missed the bus, and as lateness is what spreads; far ones in the middle.
QUANTILES: Final = np.array([0.34, 0.34, 0.34, 0.34, 0.35, 0.40, 0.40, 0.41, 0.47, 0.52])
RIDGE: Final = 30.0  # rows' worth of belief that there is nothing to correct
SOFT_S: Final = 20.0  # errors below this weigh as in least squares
FLUSH_ROWS: Final = 4_000  # after so many new rows all is fitted anew
KEPT_ROWS: Final = 100_000.0  # a row that is older by this many counts 1/e
CELL_S: Final = 5.0  # of the histograms, which reach from -REACH_S to REACH_S
REACH_S: Final = 1_500.0
SPREADS_S: Final = np.array([-60.0, *range(0, 121, 30), 180.0, 240.0, 300.0, 420.0, 600.0, 900.0, 1_200.0, 1_800.0])
PRIOR_ROWS: Final = 200.0  # of an assumed spread, until there are errors
ENDS: Final = (0.05, 0.95)


class Corrections:
    """What was learnt so far. `learn` changes it in place."""

    def __init__(self, n_numbers: int) -> None:
        size = len(KNOTS_S) * n_numbers
        self.n_numbers = n_numbers
        self._square = np.zeros((STATES, size, size))
        self._moment = np.zeros((STATES, size))
        self.weights_SKF = np.zeros((STATES, len(KNOTS_S), n_numbers))
        cells = int(2 * REACH_S / CELL_S)
        middle_C = (np.arange(cells) + 0.5) * CELL_S - REACH_S
        scale = 45.0 + 0.15 * np.maximum(SPREADS_S, 0.0)
        assumed = np.exp(-np.abs(middle_C[None, :]) / scale[:, None])
        self._errors = np.repeat((PRIOR_ROWS * assumed / assumed.sum(1, keepdims=True))[None], STATES, axis=0)
        self.ends_s = np.zeros((STATES, len(SPREADS_S), 3))
        self._waiting: list[tuple[int, Floats, Floats, Floats]] = []
        self._n_waiting = 0
        self._measure()

    def correct(self, state: int, lead_B: Floats, numbers_BF: Floats) -> tuple[Floats, Floats, Floats]:
        """Returns the seconds until arrival, and both ends of their 90 % interval, of answers with such a lead."""
        point_B = np.maximum(lead_B + self._correction(state, lead_B, numbers_BF), 1.0)
        low, middle, high = (np.interp(point_B, SPREADS_S, self.ends_s[state, :, n]) for n in range(3))
        best = np.maximum(point_B + middle, 1.0)
        return best, np.clip(point_B + low, 0.0, best), np.maximum(point_B + high, best)

    def learn(self, state: int, lead_B: Floats, numbers_BF: Floats, truth_B: Floats) -> None:
        """Takes what truly came: seconds until arrival from the moment of each answer."""
        self._waiting.append((state, lead_B, numbers_BF, truth_B))
        self._n_waiting += len(lead_B)
        if self._n_waiting >= FLUSH_ROWS:
            self._fit()

    def _correction(self, state: int, lead_B: Floats, numbers_BF: Floats) -> Floats:
        at, share = _between(lead_B)
        weights_KF = self.weights_SKF[state]
        weights_BF = weights_KF[at] * (1 - share)[:, None] + weights_KF[at + 1] * share[:, None]
        return np.asarray((weights_BF * numbers_BF).sum(1))

    def _fit(self) -> None:
        kept = np.exp(-self._n_waiting / KEPT_ROWS)
        self._square *= kept
        self._moment *= kept
        self._errors *= kept
        for state in range(STATES):
            parts = [part[1:] for part in self._waiting if part[0] == state]
            if parts:
                self._add(state, *(np.concatenate(column) for column in zip(*parts, strict=True)))
        self._waiting, self._n_waiting = [], 0
        self._measure()

    def _add(self, state: int, lead_B: Floats, numbers_BF: Floats, truth_B: Floats) -> None:
        point_B = np.maximum(lead_B + self._correction(state, lead_B, numbers_BF), 1.0)
        error_B = truth_B - point_B
        cell = np.clip((error_B + REACH_S) / CELL_S, 0, self._errors.shape[2] - 1).astype(int)
        nearest = np.abs(point_B[:, None] - SPREADS_S[None, :]).argmin(1)
        np.add.at(self._errors[state], (nearest, cell), 1.0)
        at, share = _between(lead_B)
        by_knot = np.zeros((len(lead_B), len(KNOTS_S), self.n_numbers))
        each = np.arange(len(lead_B))
        by_knot[each, at] = (1 - share)[:, None] * numbers_BF
        by_knot[each, at + 1] += share[:, None] * numbers_BF
        rows: Floats = by_knot.reshape(len(lead_B), -1)
        quantile = np.interp(lead_B, KNOTS_S, QUANTILES)
        weight = 2 * np.where(error_B > 0, quantile, 1 - quantile) / (1 + np.abs(error_B) / SOFT_S)
        self._square[state] += rows.T @ (rows * weight[:, None])
        self._moment[state] += rows.T @ (weight * (truth_B - lead_B))
        ridge = RIDGE * np.eye(rows.shape[1])
        self.weights_SKF[state] = np.linalg.solve(self._square[state] + ridge, self._moment[state]).reshape(
            len(KNOTS_S), self.n_numbers
        )

    def _measure(self) -> None:
        """Reads the point's quantile and both ends off the histograms."""
        edges = np.arange(self._errors.shape[2] + 1) * CELL_S - REACH_S
        for state in range(STATES):
            for row, spread_s in enumerate(SPREADS_S):
                below = np.r_[0.0, np.cumsum(self._errors[state, row])]
                wanted = (ENDS[0], float(np.interp(spread_s, KNOTS_S, QUANTILES)), ENDS[1])
                self.ends_s[state, row] = np.interp(np.array(wanted) * below[-1], below, edges)


def _between(lead_B: Floats) -> tuple[Ints, Floats]:
    """Returns the knot before each lead, and how far it is on its way to the next."""
    lead_B = np.clip(lead_B, KNOTS_S[0], KNOTS_S[-1])
    at = np.clip(np.searchsorted(KNOTS_S, lead_B, side="right") - 1, 0, len(KNOTS_S) - 2)
    return at, (lead_B - KNOTS_S[at]) / (KNOTS_S[at + 1] - KNOTS_S[at])
