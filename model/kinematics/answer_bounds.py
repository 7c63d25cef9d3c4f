"""Constants of the answers that the heads of the network share with their compiled twins. It imports no torch."""

from __future__ import annotations

from typing import Final

NU: Final = 4.0
SCALE_OF_COV: Final = 1 / 1.878
REACH_MEMORY_S: Final = 1_800.0  # beyond this, a recent speed says little about the position
HEADING_FLOOR_MPS: Final = 0.5  # below this speed, the filtered heading is GPS noise
CHORD_FLOOR_M: Final = 10.0  # the same for the straight line across a gap
MAX_LOG_SPREAD: Final = 8.0  # e^8: the covariance stays within 1/3000 .. 3000 times that of the physics
MAX_LOG_SHAPE: Final = 3.0  # no ellipse is thinner than e^-3
MAX_RESIDUAL: Final = 4.0  # in reaches: nothing travels at four times its recent speed for half an hour
MAX_GAP_AGE: Final = 3  # a gap is filled at the first, second or third fix after it
MAX_LEAN: Final = 2.0  # largest weight of an alternative: 1 replaces the base by it, 2 goes as far again beyond it
RESIDUAL: Final = 4  # numbers of an answer: first those of the residual,
OUT: Final = RESIDUAL + 5  # then five of the covariance; A weights of the alternatives follow
