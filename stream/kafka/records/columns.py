"""Holds many byte strings as one column: spans of the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.jit import compiled

I64 = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class BytesColumn(NamedTuple):
    """N byte strings, as spans of the same bytes: a thousand of them are three arrays and no Python objects. The end of
    one that is None is before its start."""

    raw: Bytes
    start: I64
    end: I64

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> BytesColumn:
        end = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        return cls(np.frombuffer(b"".join(texts), np.uint8), np.append(0, end[:-1])[: len(end)], end)

    @classmethod
    def of_some(cls, texts: Sequence[bytes | None]) -> BytesColumn:
        found = cls.of([text or b"" for text in texts])
        return found._replace(end=found.end - np.array([text is None for text in texts], np.int64))

    @classmethod
    def of_width(cls, raw: Bytes, width: int) -> BytesColumn:
        """Returns a column of byte strings that all have the same width and follow each other."""
        end = np.arange(width, len(raw) + 1, width)
        return cls(raw, end - width, end)

    def at(self, rows: Any) -> BytesColumn:
        """Returns a column of some rows, which a numpy index selects. Both share the bytes."""
        return BytesColumn(self.raw, *(np.ascontiguousarray(column[rows]) for column in (self.start, self.end)))

    def alone(self) -> BytesColumn:
        """Returns a copy whose byte strings follow each other without a gap. None becomes empty."""
        lengths = np.maximum(self.lengths, 0)
        end = np.cumsum(lengths)
        found = BytesColumn(np.empty(int(lengths.sum()), np.uint8), end - lengths, end)
        _copy(*self, *found)
        return found

    def one(self, row: int) -> bytes | None:
        start, end = int(self.start[row]), int(self.end[row])
        return None if end < start else self.raw[start:end].tobytes()

    def each(self) -> list[bytes | None]:
        raw, spans = self.raw.tobytes(), zip(self.start.tolist(), self.end.tolist(), strict=True)
        return [None if end < start else raw[start:end] for start, end in spans]

    @property
    def lengths(self) -> I64:
        return self.end - self.start

    def distinct(self, of: I64, rows: I64) -> tuple[I64, I64]:
        """Groups some rows by equal byte strings. Returns the first row of each group, and for each row the index of
        its group. Rows with two different numbers in `of` [N] are never in one group."""
        known: dict[tuple[int, bytes | None], int] = {}
        texts = zip(of[rows].tolist(), self.at(rows).each(), strict=True)
        like = np.array([known.setdefault(one, len(known)) for one in texts], np.int64)
        return rows[np.unique(like, return_index=True)[1]], like


@compiled
def copy_bytes(source, start, end, out, at):  # type: ignore[no-untyped-def]
    """Copies source[start:end] to out[at:]. Returns where the copy ends in `out`."""
    # The indexes are unsigned: numba checks whether a signed one counts from the end, and then copies byte by byte,
    # which takes 670 ns for 800 bytes instead of 19.
    to, of = np.uint64(at), np.uint64(start)
    for place in range(np.uint64(end - start)):
        out[to + place] = source[of + place]
    return at + end - start


@compiled
def _copy(raw, start, end, out, to, to_end):  # type: ignore[no-untyped-def]
    for i in range(len(start)):
        copy_bytes(raw, start[i], start[i] + to_end[i] - to[i], out, to[i])
