"""The coefficients of `model.arrivals.times`: a row for each of its LEVELS, a column for each of its numbers.

Made by `python -m train.evaluation.travel.arrivals_fit` (train/experiments/notes/arrivals.md has data, date and
machine).
"""

from __future__ import annotations

from typing import Final

ALONE: Final = (
    (1.5048, 1.3906, -0.5855),
    (2.1403, 1.5761, -0.7930),
    (2.8748, 2.0308, -1.2122),
    (3.2009, 2.1556, -1.3159),
    (3.6706, 2.0848, -1.2816),
    (4.8648, 2.0495, -1.3653),
    (5.9138, 1.8814, -1.3337),
)
WITH_PASSAGES: Final = (
    (0.0604, 0.3228, -0.0919, 0.7748, -0.8033, 0.0065, -0.6961),
    (0.2846, 0.2665, -0.1257, 0.8508, -0.8479, -0.0002, -0.6450),
    (0.7424, 0.2765, -0.2127, 0.8956, -0.8508, -0.0118, -0.5498),
    (1.0575, 0.3371, -0.2712, 0.8655, -0.5886, -0.0163, -0.4161),
    (1.1154, 0.3419, -0.2898, 0.8716, -0.1321, -0.0226, -0.1729),
    (1.8097, 0.4548, -0.4282, 0.8348, -0.0122, 0.0041, 0.0592),
    (2.4263, 0.4654, -0.4564, 0.7800, -0.0245, 0.0582, 0.1182),
)
