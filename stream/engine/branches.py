"""Writes the branches of forecasts: the field `branches` of `wire.Forecast`, as JSON with the comma before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from model.api import Forecasts
from stream.engine.json_template import Template
from stream.kafka.records.columns import I64, BytesColumn
from stream.wire import E7

SHARE_DIGITS: Final = 2
_DEG_DIGITS: Final = round(math.log10(E7))
_LEAST: Final = 2  # branches; with one, nobody parts


def write_branches(horizons_s: Sequence[float], answers: Forecasts) -> BytesColumn:
    """Returns the text of each row [N]: empty where no passages part. Branches end at the last horizon up to which they
    are known; horizons may stand in any order."""
    horizons, texts = tuple(map(float, horizons_s)), [BytesColumn.of([b""])]
    branches = (answers.branch_share > 0).sum(axis=1)
    known = np.isfinite(answers.branch_lat[:, 0])  # [N, H]
    which = np.zeros(len(known), np.int64)  # the row of each in the joined texts
    some = np.flatnonzero((branches >= _LEAST) & known.any(axis=1))
    if not len(some):
        return texts[0].at(which)
    kinds, of = np.unique(np.column_stack([branches[some], known[some]]), axis=0, return_inverse=True)
    for number, (count, *asked) in enumerate(kinds.tolist()):
        rows, columns = some[of.ravel() == number], np.flatnonzero(asked)
        which[rows] = sum(len(text.start) for text in texts) + np.arange(len(rows))
        template = _template(tuple(horizons[column] for column in columns), count)
        texts.append(template.written(_numbers(answers, rows, columns, count), ()))
    return _joined(texts).at(which)


@lru_cache(maxsize=256)
def _template(horizons_s: tuple[float, ...], count: int) -> Template:
    pieces, holes = [',"branches":['], list[int]()
    for branch in range(count):
        pieces[-1] += ',{"share":' if branch else '{"share":'
        holes.append(SHARE_DIGITS)
        pieces.append(',"positions":[')
        for number, horizon_s in enumerate(horizons_s):
            pieces[-1] += f'{"," if number else ""}{{"h_s":{horizon_s!r},"lat":'
            holes += [_DEG_DIGITS, _DEG_DIGITS]
            pieces += [',"lon":', "}"]
        pieces[-1] += "]}"
    pieces[-1] += "]"
    return Template(pieces, holes)


def _numbers(answers: Forecasts, rows: I64, columns: I64, count: int) -> I64:
    """Returns the numbers [count * (1 + 2 K), R] of the template: of each branch its share and K places."""
    place = np.ix_(rows, np.arange(count), columns)
    degrees = np.stack([answers.branch_lat[place], answers.branch_lon[place]], axis=-1) * E7
    shares = answers.branch_share[rows, :count, None] * 10.0**SHARE_DIGITS
    numbers = np.concatenate([shares, degrees.reshape(len(rows), count, -1)], axis=-1)
    return np.ascontiguousarray(np.rint(numbers).astype(np.int64).reshape(len(rows), -1).T)


def _joined(texts: Sequence[BytesColumn]) -> BytesColumn:
    shifts = np.cumsum([0, *(len(text.raw) for text in texts[:-1])])
    start, end = (
        np.concatenate([spans + shift for spans, shift in zip(column, shifts, strict=True)])
        for column in ([text.start for text in texts], [text.end for text in texts])
    )
    return BytesColumn(np.concatenate([text.raw for text in texts]), start, end)
