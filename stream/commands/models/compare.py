"""How far two sets of weights lie apart, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.api import load_weights


class Distance(NamedTuple):
    """One tensor of both. Where the shapes differ, or only one has it, no number is known."""

    name: str
    relative: float | None  # the length of the difference, as a part of the first one's length; None if that is 0
    most: float | None  # the largest difference of a number
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]


def distances(before: Path, after: Path) -> list[Distance]:
    """Returns the distance of every tensor, the farthest first, after those of which it is not known."""
    first, second = (load_weights(folder).tensors for folder in (before, after))
    found = []
    for name in sorted(first.keys() | second.keys()):
        a, b = first.get(name), second.get(name)
        shapes = (None if a is None else a.shape, None if b is None else b.shape)
        if a is None or b is None or a.shape != b.shape:
            found.append(Distance(name, None, None, shapes))
            continue
        apart, length = b.astype(np.float64) - a, float(np.linalg.norm(a.astype(np.float64)))
        most = float(np.abs(apart).max(initial=0.0))
        # A tensor of zeros that stays so has not moved; one that leaves zero has moved by no part of it.
        relative = float(np.linalg.norm(apart)) / length if length else 0.0 if most == 0.0 else None
        found.append(Distance(name, relative, most, shapes))
    return sorted(found, key=lambda one: -np.inf if one.relative is None else -one.relative)
