"""H3 cells as a numbered vocabulary, and positions from a distribution over them. Needs the extra `experiments`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.kinematics.geo import F64, displacement_m, to_e7
from train.data.corpus import Corpus

MOST_PINGS: Final = 300_000  # pings of the corpus, evenly spaced, that show which cells are visited
MIN_VISITS: Final = 3  # visits among those: a cell that training rarely meets is memorised or not learned
MEDIAN_STEPS: Final = 12  # of Weiszfeld's iteration: the error is then metres, where a cell has hundreds


@dataclass(frozen=True)
class Vocabulary:
    """R cells of one resolution, numbered by ascending ids; R itself means "none of them"."""

    resolution: int
    ids: NDArray[np.uint64]  # (R,)
    lat: F64  # (R,) degrees of the centres
    lon: F64

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def visited(cls, corpus: Corpus, resolution: int) -> Vocabulary:
        """Returns the cells that the tracks visit. Raises ValueError where there are none."""
        rows = np.concatenate([np.arange(first, last) for first, last in corpus.tracks])
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(MOST_PINGS, len(rows))).astype(np.int64))]
        seen = cell_ids(np.asarray(corpus.lat[rows]), np.asarray(corpus.lon[rows]), resolution)
        ids, visits = np.unique(seen, return_counts=True)
        ids = ids[visits >= MIN_VISITS]
        if not len(ids):
            raise ValueError(f"no cell of resolution {resolution} has {MIN_VISITS} pings")
        centres = np.array([require().cell_to_latlng(int(each)) for each in ids])
        return cls(resolution, ids, centres[:, 0], centres[:, 1])

    def number(self, lat: F64, lon: F64) -> NDArray[np.int64]:
        """Returns the numbers [...] of positions [...] in degrees; R for NaN or a cell that is not in the
        vocabulary.
        """
        wanted = cell_ids(lat.ravel(), lon.ravel(), self.resolution)
        at = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return np.where(self.ids[at] == wanted, at, len(self.ids)).reshape(lat.shape).astype(np.int64)

    def metres_from(self, fixes: NDArray[Any]) -> F64:
        """Returns the centres (N, R, 2) in metres from FIX records (N,)."""
        return displacement_m(fixes["lat_e7"][:, None], fixes["lon_e7"][:, None], to_e7(self.lat), to_e7(self.lon))


def cell_ids(lat: F64, lon: F64, resolution: int) -> NDArray[np.uint64]:
    """Returns the H3 cells of positions (N,); 0, which is no cell, for NaN."""
    h3 = require()
    pairs = zip(lat.tolist(), lon.tolist(), strict=True)
    ids = [h3.latlng_to_cell(a, b, resolution) if a == a and b == b else 0 for a, b in pairs]
    return np.array(ids, dtype=np.uint64)


def expected(share_NHR: F64, centre_NR2: F64) -> F64:
    """Returns the mean position [N, H, 2], which minimises the squared distance; it is often in a cell that nobody
    visits.
    """
    return np.asarray(np.einsum("nhr,nrc->nhc", share_NHR, centre_NR2))


def median(share_NHR: F64, centre_NR2: F64) -> F64:
    """Returns the geometric median [N, H, 2], which minimises the mean distance: Weiszfeld's iteration from the mean
    position.
    """
    at = expected(share_NHR, centre_NR2)
    for _ in range(MEDIAN_STEPS):
        off = centre_NR2[:, None] - at[:, :, None]
        weight = share_NHR / np.maximum(np.hypot(off[..., 0], off[..., 1]), 1.0)
        at = np.einsum("nhr,nrc->nhc", weight, centre_NR2) / weight.sum(-1, keepdims=True)
    return at


def within(share_NHR: F64, truth_NH: NDArray[np.int64], mass: float) -> NDArray[np.bool_]:
    """Returns whether the true cell is among the fewest cells that hold `mass`; false where it is not in the
    vocabulary.
    """
    known = truth_NH < share_NHR.shape[-1]
    own = np.take_along_axis(share_NHR, np.where(known, truth_NH, 0)[..., None], axis=-1)
    likelier = np.where(share_NHR > own, share_NHR, 0.0).sum(-1)
    return np.asarray(known & (likelier < mass))


def require() -> Any:
    """Returns h3 with cells as integers. Raises ValueError that says what to install."""
    try:
        from h3.api import basic_int
    except ImportError as error:
        raise ValueError("cells need h3, which comes with the extra: pip install 'pathcast[experiments]'") from error
    return basic_int
