"""Computes a 90 % interval around the expected time of the next fix, from the last intervals.

The network predicts one time without an interval, so this interval has a formula of its own, the same for all weights:
it is wider the more the last two intervals and the running interval differ from the expected one. Both ends are linear
in these differences of logs. They were fitted by quantile regression (tests/train/fit_lateness.py) to `small`, on
validation tracks of the four files that `small` was trained on, each file with the same weight:

    python tests/train/fit_lateness.py small capmetro_austin_bus.parquet ais_noaa_us.parquet gotrack_aracaju.parquet \\
        goal_delivery_anon.parquet                                                         29 November 2026

Shapes: N rows, K = motion.WIDTH.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from model.jit import compiled
from model.kinematics import motion as m
from model.kinematics.geo import F64

# 1; and the absolute log ratios of the last, the previous and the running interval to the expected one
TERMS: Final = 4
MOST_APART: Final = 3.0  # of a log ratio, a factor of 20: larger ones are clipped
# Coefficients of the 5 % and the 95 % quantile of the log of the time over the expected time.
EARLY: Final = np.array([-0.125, -0.133, -0.38, -1.327])
LATE: Final = np.array([0.438, 0.218, 0.104, -0.211])


def between(kin: F64, expected_s: F64) -> tuple[F64, F64]:
    """Returns the ends [N] of the interval around the expected seconds [N] after the last fix of rows [N, K]."""
    early, late = np.empty(len(kin)), np.empty(len(kin))
    _between(terms(kin, expected_s), EARLY, LATE, expected_s, early, late)
    return early, late


def terms(kin: F64, expected_s: F64) -> F64:
    """Returns the terms of both ends, [N, TERMS]. An interval that does not exist counts as the expected one."""
    out = np.empty((len(kin), TERMS))
    _terms(kin, expected_s, out)
    return out


@compiled
def _between(apart, early_line, late_line, expected_s, early, late):  # type: ignore[no-untyped-def]
    for i in range(len(apart)):
        down, up = 0.0, 0.0
        for k in range(TERMS):
            down += apart[i, k] * early_line[k]
            up += apart[i, k] * late_line[k]
        early[i], late[i] = expected_s[i] * np.exp(min(down, 0.0)), expected_s[i] * np.exp(max(up, 0.0))


@compiled
def _terms(kin, expected_s, out):  # type: ignore[no-untyped-def]
    for i in range(len(kin)):
        log_s, out[i, 0] = np.log(expected_s[i]), 1.0
        last, before = kin[i, m.DT], kin[i, m.DT1]
        out[i, 1] = 0.0 if last == 0.0 else min(abs(np.log(last) - log_s), MOST_APART)
        out[i, 2] = 0.0 if before == 0.0 else min(abs(np.log(before) - log_s), MOST_APART)
        out[i, 3] = 0.0 if last == 0.0 else min(abs(kin[i, m.LOG_DT] - log_s), MOST_APART)
