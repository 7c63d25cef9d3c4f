"""Mixes a forecast with what passages say: the fast version of `model.atlas.believing.combine`."""

from __future__ import annotations

from typing import Final

import numpy as np

from model.atlas import believing
from model.jit import compiled

_LOG_HORIZONS: Final = np.log(np.array(believing.HORIZONS_S))


@compiled
def combine(mean, cov, i, q, found, log_dt, over_scale, log_wide):  # type: ignore[no-untyped-def]
    """`believing.combine` of the question q of row i, in place. Returns whether anything is believed."""
    horizon = 0
    while horizon < len(_LOG_HORIZONS) - 2 and log_dt > _LOG_HORIZONS[horizon + 1]:
        horizon += 1
    part = (log_dt - _LOG_HORIZONS[horizon]) / (_LOG_HORIZONS[horizon + 1] - _LOG_HORIZONS[horizon])
    part = min(max(part, 0.0), 1.0)
    over = over_scale[horizon] + part * (over_scale[horizon + 1] - over_scale[horizon])
    wide = log_wide[horizon] + part * (log_wide[horizon + 1] - log_wide[horizon])
    return mix(mean, cov, i, q, found, over, wide)


@compiled
def mix(mean, cov, i, q, found, over, log_wide):  # type: ignore[no-untyped-def]
    n, there_e, there_n, ee, en, nn = found
    few = 1 + believing.FEW / (n + 0.1)
    s_ee = (ee + believing.RECEIVER_M**2) * few
    s_en, s_nn = en * few, (nn + believing.RECEIVER_M**2) * few
    of_model = (cov[i, q, 0] + cov[i, q, 2]) / 2 * over
    share = of_model / (of_model + (s_ee + s_nn) / 2)
    if not share > 0:
        return False
    less = 1 / max(over, 1e-12)
    off_e, off_n = there_e - mean[i, q, 0], there_n - mean[i, q, 1]
    wide, both = np.exp(share * log_wide), share * (1 - share)
    cov[i, q, 0] = (share * s_ee * less + (1 - share) * cov[i, q, 0] + both * off_e * off_e) * wide
    cov[i, q, 1] = (share * s_en * less + (1 - share) * cov[i, q, 1] + both * off_e * off_n) * wide
    cov[i, q, 2] = (share * s_nn * less + (1 - share) * cov[i, q, 2] + both * off_n * off_n) * wide
    mean[i, q, 0], mean[i, q, 1] = mean[i, q, 0] + share * off_e, mean[i, q, 1] + share * off_n
    return True
