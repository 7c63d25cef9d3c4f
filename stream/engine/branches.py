"""Writes the branches of forecasts: the field `branches` of `wire.Forecast`, as JSON with the comma before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Final

import numpy as np

from model.api import Forecasts
from model.jit import compiled
from stream.engine.json_template import Template
from stream.kafka.records.columns import BytesColumn
from stream.wire import E7

SHARE_DIGITS: Final = 2
_DEG_DIGITS: Final = round(math.log10(E7))
_SHARE: Final = 10.0**SHARE_DIGITS
_LEAST: Final = 2  # branches; with one, nobody parts


def write_branches(horizons_s: Sequence[float], answers: Forecasts) -> BytesColumn:
    """Returns the text of each row [N]: empty where no passages part. Branches end at the last horizon up to which they
    are known; horizons may stand in any order."""
    horizons, texts = tuple(map(float, horizons_s)), [BytesColumn.of([b""])]
    which = np.zeros(len(answers.branch_share), np.int64)  # the row of each in the joined texts
    kind = np.zeros(len(which), np.int64)
    _set_kinds(answers.branch_share, answers.branch_lat, kind)
    for one in filter(None, np.unique(kind).tolist()):
        rows, count = np.flatnonzero(kind == one), one // (len(horizons) + 1)
        columns = np.flatnonzero(np.isfinite(answers.branch_lat[rows[0], 0]))
        which[rows] = sum(len(text.start) for text in texts) + np.arange(len(rows))
        numbers = np.empty((count * (1 + 2 * len(columns)), len(rows)), np.int64)
        places = answers.branch_share, answers.branch_lat, answers.branch_lon
        _set_numbers(*places, rows, columns, count, numbers)
        texts.append(_template(tuple(horizons[column] for column in columns), count).render(numbers, ()))
    return _join(texts).at(which)


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


@partial(compiled, maths=())  # so that NaN is not a number
def _set_kinds(share, lat, kind):  # type: ignore[no-untyped-def]
    """Sets for each row [N] how many branches it has, times H + 1, plus at how many horizons they are known, which are
    the shortest ones; 0 where there are none."""
    horizons = lat.shape[2]
    for i in range(len(kind)):
        count = 0
        for branch in range(share.shape[1]):
            count += share[i, branch] > 0
        known = 0
        for h in range(horizons if count >= _LEAST else 0):
            known += not np.isnan(lat[i, 0, h])
        kind[i] = count * (horizons + 1) + known if known else 0


@compiled
def _set_numbers(share, lat, lon, rows, columns, count, out):  # type: ignore[no-untyped-def]
    """Sets the numbers [count * (1 + 2 K), R] of the template: of each branch its share and K places."""
    for r in range(len(rows)):
        at = 0
        for branch in range(count):
            out[at, r] = np.int64(np.rint(share[rows[r], branch] * _SHARE))
            for column in columns:
                out[at + 1, r] = np.int64(np.rint(lat[rows[r], branch, column] * E7))
                out[at + 2, r] = np.int64(np.rint(lon[rows[r], branch, column] * E7))
                at += 2
            at += 1


def _join(texts: Sequence[BytesColumn]) -> BytesColumn:
    shifts = np.cumsum([0, *(len(text.raw) for text in texts[:-1])])
    start, end = (
        np.concatenate([spans + shift for spans, shift in zip(column, shifts, strict=True)])
        for column in ([text.start for text in texts], [text.end for text in texts])
    )
    return BytesColumn(np.concatenate([text.raw for text in texts]), start, end)
