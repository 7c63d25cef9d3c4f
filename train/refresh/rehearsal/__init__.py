"""Real tracks of other places, which train beside a fleet so that a refresh does not forget them.

Tracks of the four sources that `small` was trained on, from the splits that trained it: buses in Austin,
ships in US waters, cars and buses in Aracaju, delivery rounds. README.md says who made the data, under which licence,
and what was changed. The golden sets (`train.refresh.golden`) have other tracks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stream.adapters.sources import Source, parse

HERE: Final = Path(__file__).parent
NAMES: Final = ("austin_buses", "us_ships", "aracaju", "delivery_rounds")


def path(name: str) -> Path:
    """Returns where the tracks of one of NAMES lie."""
    return HERE / f"rehearsal_{name}.parquet"


def sources() -> list[Source]:
    """Returns the files of all tracks."""
    return [parse(path(name)) for name in NAMES]
