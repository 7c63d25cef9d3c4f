"""Writes the files of train/refresh/rehearsal again, the same to the byte: `python tests/train/write_rehearsal.py
DIRECTORY`, with the directory of the four files that `small` was trained on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from train.data.corpus import Corpus, load
from train.data.splits import split
from train.refresh.reference_tracks import NAMES, rehearsal_path

SEED: Final = 0
# The file of each source, and the pings to take: what shows how such things move, and is no megabyte.
FILES: Final = {
    "austin_buses": ("capmetro_austin_bus.parquet", 40_000),
    "us_ships": ("ais_noaa_us.parquet", 20_000),
    "aracaju": ("gotrack_aracaju.parquet", 10_000),
    "delivery_rounds": ("goal_delivery_anon.parquet", 20_000),
}
COLUMNS: Final = ("entity_id", "t", "lat", "lon", "speed_mps", "heading_deg")


def write(directory: Path) -> None:
    """Writes each source's tracks from its file in `directory`."""
    for name in NAMES:
        file, pings = FILES[name]
        drawn = list(_drawn(split(load([directory / file])).train, pings))
        columns = {key: np.concatenate(parts) for key, parts in zip(COLUMNS, zip(*drawn, strict=True), strict=True)}
        table = {
            key: pa.array(values, from_pandas=True)  # NaN is null
            for key, values in columns.items()
            if values.dtype.kind != "f" or not np.isnan(values).all()
        }
        pyarrow.parquet.write_table(pa.table(table), rehearsal_path(name), compression="zstd", compression_level=19)


def _drawn(corpus: Corpus, pings: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yields COLUMNS of tracks, drawn at random until they have so many pings, in the order of the file."""
    order = np.random.default_rng(SEED).permutation(len(corpus))
    length = (corpus.tracks[:, 1] - corpus.tracks[:, 0])[order]
    for track in np.sort(order[: int(np.searchsorted(np.cumsum(length), pings)) + 1]):
        rows = slice(*corpus.tracks[track])
        # Each track is an entity of its own, with a number for a name: nobody's track is joined with another one.
        who = np.full(rows.stop - rows.start, f"rehearsal-{track}")
        position = (np.round(column[rows], 6) for column in (corpus.lat, corpus.lon))  # to 0.1 m
        yield who, corpus.ts_ms[rows], *position, corpus.speed_mps[rows], corpus.heading_deg[rows]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
