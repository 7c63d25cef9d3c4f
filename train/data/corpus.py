"""Reads sources into one memory-mapped Corpus, cut into tracks, and caches its columns.

A corpus lives in a cache directory, one per set of sources, named by the fingerprint of their contents:

    <cache>/<fingerprint>/ts_ms.npy lat.npy lon.npy speed_mps.npy heading_deg.npy    one column each, R rows
                          run_start.npy run_entity.npy run_mode.npy run_file.npy     runs, which are never joined
                          file_start.npy                                             where each file begins
                          meta.json                                                  names, modes, files, dropped rows

Tracks are cut when a corpus is opened, so that training (long tracks) and evaluation (short gaps only) share the
columns.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.kinematics.features import ABSENT, FIX
from model.kinematics.geo import E7
from stream.adapters.sources import TABLE, Source, parse
from stream.adapters.table_builder import END_S
from stream.adapters.tables import UNREADABLE_FILE, why
from train.data.cutting import TRAINING, Cut, cut_rows

LAYOUT = "pathcast-corpus-3"  # part of the fingerprint: a change of layout or cleaning gives another cache
COLUMNS = ("ts_ms", "lat", "lon", "speed_mps", "heading_deg")
RUNS = ("run_start", "run_entity", "run_mode", "run_file", "file_start")


@dataclass(frozen=True)
class Corpus:
    """Pings of many files, R rows, cut into T tracks. Columns are read-only memory maps.

    The rows of a track are in strictly rising time. Rows outside every track (too short to use) stay in the columns.
    """

    ts_ms: NDArray[np.int64]  # (R,) UTC; may be negative
    lat: NDArray[np.float64]  # (R,) degrees
    lon: NDArray[np.float64]  # (R,) degrees
    speed_mps: NDArray[np.float32]  # (R,) NaN where absent
    heading_deg: NDArray[np.float32]  # (R,) NaN where absent
    tracks: NDArray[np.int64]  # (T, 2) first row, row after the last
    entity: NDArray[np.int32]  # (T,) index into `names`
    file: NDArray[np.int32]  # (T,) index into `files`
    mode: NDArray[np.int32]  # (T,) index into `modes`, -1 where the file has none
    file_start: NDArray[np.int64]  # (F + 1,) first row of each file, and R
    file_entities: NDArray[np.int64]  # (F,) number of entities in each file, with a track or not
    names: tuple[str, ...]  # entity ids; the same id in two files is one entity
    files: tuple[str, ...]  # names of sources, without directory
    modes: tuple[str, ...]  # travel modes: "bus", "walk", ...; few files have them
    fingerprint: str  # hash of the sources' contents, 16 hex digits
    dropped: dict[str, int]  # rows that were not pings, and files that could not be read, by reason
    unreadable: tuple[str, ...] = ()  # the first unreadable file of each source that has any: gtfs:feed/0005.pb

    def __len__(self) -> int:
        """The number of tracks."""
        return len(self.tracks)

    @property
    def pings(self) -> int:
        """The number of rows that are in a track."""
        return int(self.lengths.sum())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of pings of each track (T,)."""
        return np.asarray(self.tracks[:, 1] - self.tracks[:, 0])

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows that are in a track, track after track."""
        return np.concatenate([np.empty(0, np.int64), *(np.arange(first, last) for first, last in self.tracks)])

    def fixes(self, rows: NDArray[Any] | slice) -> NDArray[Any]:
        """Returns the rows as FIX records of the shape of `rows`: the model's input in serving, with the same
        rounding.
        """
        out = np.empty(self.ts_ms[rows].shape, FIX)
        out["ts_ms"] = self.ts_ms[rows]
        for name, column in (("lat_e7", self.lat), ("lon_e7", self.lon)):
            out[name] = np.rint(column[rows] * E7)
        for name, reported in (("speed_cms", self.speed_mps), ("heading_cdeg", self.heading_deg)):
            hundredths = np.rint(reported[rows] * 100)
            out[name] = np.where(np.isnan(hundredths), ABSENT, np.minimum(hundredths, ABSENT - 1))
        return out

    def select(self, chosen: NDArray[Any]) -> Corpus:
        """Returns the same columns with fewer tracks; `chosen` is a mask (T,) or indices of tracks."""
        return self.cut(self.tracks[chosen], np.arange(len(self))[chosen])

    def of_files(self, files: Collection[str]) -> NDArray[np.bool_]:
        """Returns the mask (T,) of the tracks that lie in files of these names."""
        return np.isin(self.files, tuple(files))[self.file]

    def cut(self, tracks: NDArray[np.int64], of: NDArray[np.int64]) -> Corpus:
        """Returns the same columns with other tracks (T', 2); each is a part of the track here whose index is in `of`
        (T',).
        """
        return replace(self, tracks=tracks, entity=self.entity[of], file=self.file[of], mode=self.mode[of])

    def keep(self, rows: NDArray[np.int64]) -> Corpus:
        """Returns the same tracks with only these of their pings; rows must rise."""
        tracks, start = np.searchsorted(rows, self.tracks), np.searchsorted(rows, self.file_start)
        columns = {name: getattr(self, name)[rows] for name in ("ts_ms", "lat", "lon", "speed_mps", "heading_deg")}
        return replace(self, tracks=tracks, file_start=start, **columns)


def even_indices(count: int, most: int) -> NDArray[np.int64]:
    """Returns at most `most` of the indices below `count`, evenly spaced."""
    return np.unique(np.linspace(0, max(0, count - 1), min(most, count)).round().astype(np.int64))


Reading = Callable[[str, float], None]  # gets the source that is being read, and the share that is done


def ignore_progress(source: str, share: float) -> None:
    """Ignores the progress."""


def load(
    files: Sequence[Path | str | Source],
    cache_dir: Path | None = None,
    *,
    cut: Cut = TRAINING,
    reading: Reading = ignore_progress,
) -> Corpus:
    """Opens track files as one corpus, and writes the columns to the cache the first time.

    A file is what `stream.adapters.sources.parse` accepts. `cache_dir` defaults to `default_cache()`. Raises ValueError
    with the name of the file and column that is wrong, OSError for what cannot be read or written.
    """
    if not files:
        raise ValueError("no data files given")
    sources = [file if isinstance(file, Source) else parse(file) for file in files]
    fingerprint = _fingerprint(sources)
    directory = (default_cache() if cache_dir is None else Path(cache_dir)) / fingerprint
    if not _is_written(directory):
        _write(sources, directory, reading)
    return _open(directory, fingerprint, cut)


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/pathcast/corpora`, or the same under ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "pathcast" / "corpora"


def _fingerprint(sources: Sequence[Source]) -> str:
    """Hashes names and contents, not times: the same data has the same splits on every machine."""
    digest = blake2b(LAYOUT.encode(), digest_size=8)
    for source in sources:
        digest.update(b"\0" + source.name.encode() + b"\0")
        if source.edition:
            digest.update(f"edition {source.edition}\0".encode())
        if mapped := str(source.columns):
            digest.update(mapped.encode() + b"\0")
        if source.pings is not None:
            digest.update(source.pings.fingerprint.encode())
            continue
        for file in source.files():
            if source.format != TABLE:
                digest.update(f"{_relative_name(source, file)}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as content:
                while block := content.read(1 << 22):
                    digest.update(block)
    return digest.hexdigest()


def _relative_name(source: Source, file: Path) -> str:
    return file.name if file == source.path else file.relative_to(source.path).as_posix()


def _write(sources: Sequence[Source], directory: Path, reading: Reading) -> None:
    """Fills a temporary directory and renames it, so that a killed run leaves no half corpus."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory.parent))
    try:
        read = [source.read(partial(reading, str(source))) for source in sources]
        names = sorted({name for table in read for name in table.names})
        modes = sorted({name for table in read for name in table.modes})
        base = np.cumsum([0, *(len(table.ts_ms) for table in read)])
        for column in COLUMNS:
            np.save(scratch / f"{column}.npy", np.concatenate([getattr(table, column) for table in read]))
        entity = [_recode(table.run_entity, table.names, names) for table in read]
        mode = [_recode(table.run_mode, table.modes, modes) for table in read]
        runs = {
            "run_start": np.concatenate([table.run_start + base[i] for i, table in enumerate(read)]),
            "run_entity": np.concatenate(entity),
            "run_mode": np.concatenate(mode),
            "run_file": np.concatenate([np.full(len(table.run_start), i, np.int32) for i, table in enumerate(read)]),
        }
        runs["file_start"] = base.astype(np.int64)
        for name, array in runs.items():
            np.save(scratch / f"{name}.npy", array)
        reasons = dict.fromkeys(reason for table in read for reason in table.dropped)
        dropped = {reason: sum(table.dropped.get(reason, 0) for table in read) for reason in reasons}
        meta = {"files": [source.name for source in sources], "names": names, "modes": modes, "dropped": dropped}
        meta["unreadable"] = [
            f"{source.name}/{_relative_name(source, table.unreadable[0])}"
            for source, table in zip(sources, read, strict=True)
            if table.unreadable
        ]
        (scratch / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        _publish(scratch, directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, directory: Path) -> None:
    """Renames the directory, unless another process (a rank of the same run) was faster: its columns are the same."""
    if directory.exists() and not _is_written(directory):  # a leftover that no run completes
        shutil.rmtree(directory)
    try:
        scratch.rename(directory)
    except OSError:
        if not _is_written(directory):
            raise


def _is_written(directory: Path) -> bool:
    """Returns whether the directory holds a corpus that can be opened."""
    try:
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    # Earlier versions read blank ids of CSV as a vehicle named "", and microseconds as times of the year 40,000. Such
    # corpora are written again; LAYOUT stays, so that other files keep theirs. A file's first row is enough, because
    # all its times are in one unit.
    ts_ms, start = np.load(directory / "ts_ms.npy", mmap_mode="r"), np.load(directory / "file_start.npy")
    in_time = bool((ts_ms[start[:-1][np.diff(start) > 0]] < 1000 * END_S).all())
    return in_time and "" not in meta["names"] and "" not in meta["modes"]


def _recode(codes: NDArray[np.int64], old: Sequence[str], new: Sequence[str]) -> NDArray[np.int32]:
    """Turns indices into `old` into indices into `new`; -1 stays."""
    place = {name: index for index, name in enumerate(new)}
    return np.array([*(place[name] for name in old), -1], np.int32)[codes]


def _open(directory: Path, fingerprint: str, cut: Cut) -> Corpus:
    meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
    column = {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
    run = {name: np.load(directory / f"{name}.npy") for name in RUNS}
    unreadable = tuple(meta.get("unreadable", ()))  # earlier versions read no folder with such a file
    if len(column["ts_ms"]) == 0:
        raise ValueError(f"{', '.join(meta['files'])}: {_no_ping(meta['dropped'], unreadable)}")
    tracks = cut_rows(column["ts_ms"], column["lat"], column["lon"], run["run_start"], run["run_file"], cut)
    of = np.searchsorted(run["run_start"], tracks[:, 0], side="right") - 1
    return Corpus(
        **column,
        tracks=tracks,
        entity=run["run_entity"][of],
        file=run["run_file"][of],
        mode=run["run_mode"][of],
        file_start=run["file_start"],
        file_entities=np.array(
            [len(np.unique(run["run_entity"][run["run_file"] == file])) for file in range(len(meta["files"]))], np.int64
        ),
        names=tuple(meta["names"]),
        modes=tuple(meta["modes"]),
        files=tuple(meta["files"]),
        fingerprint=fingerprint,
        dropped=meta["dropped"],
        unreadable=unreadable,
    )


def _no_ping(dropped: dict[str, int], unreadable: Sequence[str]) -> str:
    files = dropped.get(UNREADABLE_FILE, 0)
    rows = sum(dropped.values()) - files
    besides = f" (files that cannot be read: {files:,}, first {', '.join(unreadable)})" if files else ""
    if rows == 0:
        return f"no rows{besides}"
    hint = "; are lat and lon swapped, missing or always 0?" if dropped.get("impossible_position") == rows else ""
    return f"not one row is a ping: {why(dropped)}{hint}{besides}"
