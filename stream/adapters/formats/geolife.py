"""Reads GeoLife 1.x: `<user>/Trajectory/*.plt` and `<user>/labels.txt`.

    six lines of header, then    lat, lon, 0, altitude in feet (-777: none), days since 1899-12-30, date, time
    labels.txt, tabs             start, end, mode: YYYY/MM/DD HH:MM:SS; both ends belong to the span

All times are GMT. The time comes from the columns date and time, which are whole seconds; the days are the same time,
rounded. The altitude is not read, as the model does not use it, so an invalid one has no effect. Labels are used if
they are in the given folder or below it. The entity is the user's folder ("010") and each file is a trajectory, as in
the table files that are made from GeoLife: a person has the same id in both, and so is in the same split.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from stream.adapters import text
from stream.adapters.table_builder import Piece, Progress, TableBuilder
from stream.adapters.tables import Table

HEADER_LINES: Final = 6
COLUMNS: Final = ("lat", "lon", "zero", "altitude_ft", "days", "date", "time")


class Labels(NamedTuple):
    """The L labelled spans of one user, sorted by their start."""

    start_ms: NDArray[np.int64]  # (L,)
    end_ms: NDArray[np.int64]  # (L,) inclusive
    mode: tuple[str, ...]  # (L,)


def read(files: Sequence[Path], progress: Progress) -> Table:
    """Reads the files. Raises ValueError, which names file and line, for invalid labels, and if no PLT can be read."""
    found = TableBuilder()
    plts = [file for file in files if file.suffix.lower() == ".plt"]
    labels_of = {file.parent: _read_labels(file) for file in files if file.name.lower() == "labels.txt"}
    trajectories = count()

    def add(file: Path, within: Progress) -> None:
        _check_header(file)
        user = file.parent.parent if file.parent.name == "Trajectory" else file.parent
        piece_of = partial(
            _make_piece, user=user.absolute().name, trajectory=next(trajectories), labels=labels_of.get(user)
        )
        text.gather(found, file, COLUMNS, piece_of, within, skip=HEADER_LINES)

    found.each(plts, progress, add)
    return found.table()


def _check_header(file: Path) -> None:
    with file.open("rb") as stream:
        head = [stream.readline() for _ in range(HEADER_LINES)]
    if not head[0].removeprefix(codecs.BOM_UTF8).lower().startswith(b"geolife"):
        raise ValueError(f"{file}, line 1: expected 'Geolife trajectory', got {head[0][:40]!r}")
    if not head[-1]:
        raise ValueError(f"{file}, line {head.index(b'') + 1}: the header of {HEADER_LINES} lines ends early")


def _make_piece(sheet: Any, *, user: str, trajectory: int, labels: Labels | None) -> Piece:
    ts_ms = text.local_ms(pc.binary_join_element_wise(sheet["date"], sheet["time"], " "))
    return Piece(
        entity=user,
        ts_ms=ts_ms,
        lat=text.numbers(sheet["lat"]),
        lon=text.numbers(sheet["lon"]),
        trajectory=trajectory,
        mode=_find_modes(ts_ms, labels),
    )


def _find_modes(ts_ms: NDArray[np.int64], labels: Labels | None) -> tuple[NDArray[np.int16], tuple[str, ...]] | None:
    """Returns the mode of each row. If spans overlap, the one that began later counts."""
    if labels is None or len(ts_ms) == 0:
        return None
    mode = np.full(len(ts_ms), -1, np.int16)
    names = tuple(dict.fromkeys(labels.mode))
    near = (labels.end_ms >= ts_ms.min()) & (labels.start_ms <= ts_ms.max())
    for span in np.flatnonzero(near):
        within = (ts_ms >= labels.start_ms[span]) & (ts_ms <= labels.end_ms[span])
        mode[within] = names.index(labels.mode[span])
    return mode, names


def _read_labels(file: Path) -> Labels:
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    spans = [_parse_span(file, number, line) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    spans.sort(key=lambda span: span[:2])
    return Labels(
        np.array([span[0] for span in spans], np.int64),
        np.array([span[1] for span in spans], np.int64),
        tuple(span[2] for span in spans),
    )


def _parse_span(file: Path, number: int, line: str) -> tuple[int, int, str]:
    try:
        start, end, mode = (cell.strip() for cell in line.split("\t"))
        return _label_ms(start), _label_ms(end), mode.lower()
    except ValueError as error:
        raise ValueError(f"{file}, line {number}: expected start, end, mode with tabs between; {error}") from error


def _label_ms(cell: str) -> int:
    return int(datetime.strptime(cell, "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp()) * 1000
