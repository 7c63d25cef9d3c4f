"""Fits `model.kinematics.lateness`, the interval of the next ping's time. Run it on other files to get other
coefficients:

python tests/train/fit_lateness.py WEIGHTS FILE...
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from model.api import Predictor
from model.kinematics import lateness
from model.kinematics.geo import F64
from model.quantile_regression import fit_line
from train.calibration.calibrate import FULL_WEIGHT, MOST_ANCHORS
from train.data import anchors as anchoring
from train.evaluation.forecasts import Sample, open_samples
from train.evaluation.rollout import roll_along

SHARES: Final = (0.05, 0.95)


def fit(samples: Sequence[Sample], predictor: Predictor) -> tuple[F64, F64]:
    """Returns the coefficients (TERMS,) of both ends. Files with FULL_WEIGHT pings or more have the same weight."""
    terms, off, weight = [], [], []
    for sample in samples:
        anchors = anchoring.find_anchors(sample.corpus)
        walked = roll_along(sample.corpus, anchors, [], predictor)
        assert walked.kin is not None  # a rollout with a model has them
        assert walked.next_s is not None
        terms.append(lateness.terms(walked.kin, walked.next_s))
        off.append(np.log(anchors.dt_s[:, 0] / walked.next_s))
        weight.append(np.full(len(anchors.row), 1.0 / max(len(anchors.row), FULL_WEIGHT)))
    columns = (np.concatenate(parts) for parts in (terms, off, weight))
    seen, log_off, weights = columns
    early, late = (fit_line(seen, log_off, share, weights) for share in SHARES)
    return early, late


def main(weights: str, *files: str) -> None:
    samples = open_samples([Path(file) for file in files], "val", most=MOST_ANCHORS)
    for name, line in zip(("EARLY", "LATE"), fit(samples, Predictor.load(weights)), strict=True):
        sys.stdout.write(f"{name} {np.round(line, 3).tolist()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
