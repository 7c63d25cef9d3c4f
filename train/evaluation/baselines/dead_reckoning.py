"""Dead reckoning: the thing continues at its reported speed and course. For AIS this is the first baseline that one
tries.

The other baselines use positions alone, because not every source reports more; the network uses reported speed and
course where they exist.

Letters: A anchors, H = 1 + horizons.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from model.kinematics.geo import move_deg
from train.data import anchors as anchoring
from train.data.anchors import Anchors
from train.data.corpus import Corpus
from train.evaluation.rollout import Answers

REPORTED: Final = "reported_velocity"


def dead_reckon(corpus: Corpus, anchors: Anchors) -> dict[str, Answers]:
    """Returns point forecasts; nothing where no anchor has a speed and a course.

    An anchor without a speed continues with its last step's velocity, one without a course in its last step's
    direction.
    """
    speed_mps = np.asarray(corpus.speed_mps[anchors.row], np.float64)
    course = np.radians(corpus.heading_deg[anchors.row], dtype=np.float64)
    if not np.isfinite(speed_mps + course).any():
        return {}
    step = anchoring.last_step(corpus, anchors.row)
    stepped_mps = step[:, :2] / step[:, 2:]
    length_mps = np.hypot(stepped_mps[:, 0], stepped_mps[:, 1])
    unit = np.where(
        np.isfinite(course)[:, None],
        np.stack([np.sin(course), np.cos(course)], axis=1),
        stepped_mps / np.where(length_mps > 0, length_mps, 1.0)[:, None],
    )
    velocity_mps = np.where(np.isfinite(speed_mps)[:, None], unit * speed_mps[:, None], stepped_mps)
    at = corpus.lat[anchors.row][:, None], corpus.lon[anchors.row][:, None]
    lat, lon = move_deg(*at, velocity_mps[:, None] * anchors.dt_s[..., None])
    return {REPORTED: Answers(lat, lon, None)}
