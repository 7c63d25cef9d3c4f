"""Finds tracks of other regions and kinds of vehicles: those that train beside a fleet, so that a refresh does not
forget them, and the golden sets, by which it shows what training forgot.

Beside a fleet train real tracks of the four sources that `small` was trained on, from the splits that trained it: buses
in Austin, ships in US waters, cars and buses in Aracaju, delivery rounds (rehearsal/README.md has their licences). The
golden sets are other tracks: the buses in Austin that the demo replays, and invented towns. Neither is in any training
set, and both are the same every time. Files of one's own can be added: training must have had nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from model.files import writing_whole
from stream.adapters.sources import Source, parse
from train.data import synth
from train.data.corpus import Reading, default_cache, ignore_progress
from train.evaluation.forecasts import Sample, open_samples

REHEARSAL: Final = Path(__file__).with_name("rehearsal")
NAMES: Final = ("austin_buses", "us_ships", "aracaju", "delivery_rounds")
GOLDEN_SEED: Final = 20_261_130  # of no file that anybody trains on
GOLDEN_ENTITIES: Final = 96
MOST_ANCHORS: Final = 8_000


def rehearsal() -> list[Source]:
    """Returns the files of real tracks that train beside a fleet."""
    return [parse(rehearsal_path(name)) for name in NAMES]


def rehearsal_path(name: str) -> Path:
    """Returns the file of the tracks of one of NAMES."""
    return REHEARSAL / f"rehearsal_{name}.parquet"


def golden_samples(
    own: Sequence[Source], cache: Path | None = None, *, reading: Reading = ignore_progress
) -> list[Sample]:
    """Returns all tracks of the golden sets and of one's own. Raises ValueError for one that cannot be read."""
    towns = write_towns(cache, "golden-towns", GOLDEN_ENTITIES, GOLDEN_SEED)
    return open_samples([golden_buses(), towns, *own], "all", cache_dir=cache, most=MOST_ANCHORS, reading=reading)


def golden_buses() -> Source:
    """Returns the demo's sample of buses in Austin."""
    package = find_spec("stream")
    assert package is not None
    assert package.submodule_search_locations is not None
    return parse(Path(package.submodule_search_locations[0]) / "demo" / "sample" / "austin_buses.csv.gz")


def write_towns(cache: Path | None, name: str, entities: int, seed: int) -> Source:
    """Returns a file of invented towns in the cache, which is a function of its arguments, and is written once."""
    path = (default_cache() if cache is None else cache) / f"{name}-{entities}-{seed}.parquet"
    if not path.exists():
        with writing_whole(path) as part:
            synth.write_towns(part, entities=entities, seed=seed)
    return parse(path)
