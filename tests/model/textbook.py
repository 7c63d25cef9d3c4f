"""Computes the filters' motion as a textbook does: a velocity that decays, driven by white acceleration."""

from __future__ import annotations

import numpy as np

from model.config import ModelConfig
from model.kinematics.geo import F64


def dynamics(dt: float, config: ModelConfig, pieces: int = 4000) -> tuple[F64, F64]:
    """Φ and Q of one axis; Q by the midpoint rule, so that no closed form can be wrong twice."""
    tau = config.damping_s
    s = (np.arange(pieces) + 0.5) * dt / pieces
    carry = np.exp(-s / tau)
    column = np.stack([tau * (1 - carry), carry])
    end = np.exp(-dt / tau)
    return np.array([[1, tau * (1 - end)], [0, end]]), config.accel_psd * (column @ column.T) * dt / pieces
