"""The golden sets: other regions and other kinds of vehicles, by which it shows whether training forgot them.

Two come with pathcast: the buses in Austin that the demo replays, and invented towns with taxis, couriers, buses,
travellers and walkers. Neither is in any training set, and both are the same every time. Files of one's own can be
added: training must have had nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from model.files import writing_whole
from stream.adapters.sources import Source, parse
from train.data.corpus import Reading, default_cache, silent
from train.data.synth import write
from train.evaluation.forecasts import Sample, open_samples

TOWNS_SEED: Final = 20_261_130  # of no file that anybody trains on
TOWNS_ENTITIES: Final = 96
MOST_ANCHORS: Final = 8_000


def samples(
    own: Sequence[Source], cache: Path | None = None, *, most: int = MOST_ANCHORS, reading: Reading = silent
) -> list[Sample]:
    """Returns all tracks of the bundled sets and of one's own. Raises ValueError for one that cannot be read."""
    return open_samples([buses(), towns(cache), *own], "all", cache_dir=cache, most=most, reading=reading)


def buses() -> Source:
    """Returns the demo's sample of buses in Austin."""
    package = find_spec("stream")
    assert package is not None
    assert package.submodule_search_locations is not None
    return parse(Path(package.submodule_search_locations[0]) / "demo" / "sample" / "austin_buses.csv.gz")


def towns(cache: Path | None) -> Source:
    """Returns the invented towns, which are written once."""
    return invented(cache, "golden-towns", TOWNS_ENTITIES, TOWNS_SEED)


def invented(cache: Path | None, name: str, entities: int, seed: int) -> Source:
    """Returns a file of invented towns in the cache, which is a function of its arguments."""
    directory = default_cache() if cache is None else cache
    path = directory / f"{name}-{entities}-{seed}.parquet"
    if not path.exists():
        with writing_whole(path) as part:
            write(part, entities=entities, seed=seed)
    return parse(path)
