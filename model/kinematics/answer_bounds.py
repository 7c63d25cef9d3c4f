"""Constants of the answers: what the heads of the network and their compiled twins share. No torch."""

from __future__ import annotations

from typing import Final

NU: Final = 4.0
SCALE_OF_COV: Final = 1 / 1.878
REACH_MEMORY_S: Final = 1_800.0  # a recent speed says little about where one is later than this
HEADING_FLOOR_MPS: Final = 0.5  # below it the filtered heading is GPS noise
CHORD_FLOOR_M: Final = 10.0  # the same for the line across a gap
MAX_LOG_SPREAD: Final = 8.0  # e^8: no covariance outside 1/3000 .. 3000 times the physics'
MAX_LOG_SHAPE: Final = 3.0  # no ellipse thinner than e^-3
MAX_RESIDUAL: Final = 4.0  # reaches: nothing goes on at four times its recent speed for half an hour
MAX_GAP_AGE: Final = 3  # a gap is asked for from the first, second or third fix after it
MAX_LEAN: Final = 2.0  # how far an answer may move from one physics past the other
MAX_LOG_TRAVEL: Final = 4.0  # no travel time outside 1/50 .. 50 times that at TRAVEL_MPS
TRAVEL_MPS: Final = 5.0  # door to door along the chord, by day in a town
TRAVEL_SPREAD: Final = 0.5  # of the log of a travel time, before training
RESIDUAL: Final = 4  # numbers of an answer: those of the residual,
OUT: Final = RESIDUAL + 5  # five of the spread, then A that lean to the other physics
