"""What serves, end to end, against the definition: the bundled weights with rounded keys and values and fast layers,
ping by ping over real buses, held to the exact layers with exact rings (which test_exactness.py holds to the network).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from model.api import Forecasts, Predictor
from model.kinematics.geo import M_PER_DEG
from model.parameters.reading import from_pretrained
from model.serving.layers import Compiled, Exact
from stream.adapters.files import read
from stream.demo.run import SAMPLE
from stream.tracks.fix import pack_many
from stream.wire import Ping

HORIZONS_S = (60.0, 300.0, 900.0)
PINGS, EARLIER = 100, 8


@pytest.fixture(scope="module")
def buses() -> NDArray[Any]:
    """FIX [N, PINGS]: the sample's buses with so many pings."""
    rows: dict[str, list[Ping]] = {}
    for row in read(SAMPLE):
        ping = msgspec.json.decode(row.value, type=Ping)
        rows.setdefault(ping.entity_id, []).append(ping)
    found = np.stack([pack_many(pings[:PINGS]) for pings in rows.values() if len(pings) >= PINGS])
    assert len(found) > 30
    return found


def streamed(predictor: Predictor, fixes: NDArray[Any]) -> Forecasts:
    """The forecasts after each ping but the first few, one after the other."""
    slots, said = predictor.acquire(len(fixes)), []
    for at in range(PINGS):
        predictor.advance(slots, fixes[:, at])
        if at >= EARLIER:
            said.append(predictor.forecast(slots, HORIZONS_S))
    return Forecasts._make(map(np.concatenate, zip(*said, strict=True)))


def sigma_m(said: Forecasts) -> NDArray[np.float64]:
    return np.sqrt((said.cov_m2[..., 0] + said.cov_m2[..., 2]) / 2)


@pytest.mark.parametrize("halves", [pytest.param(True, id="bfloat16"), pytest.param(False, id="float32")])
def test_served_forecasts_are_those_of_the_definition_but_for_a_small_part_of_their_spread(
    buses: NDArray[Any], halves: bool
) -> None:
    """Found on 30 November 2026 with bfloat16: positions off by 0.8, 1.4 and 1.7 % of their standard deviation on
    average, and by 17 % at most; standard deviations by 0.6 % on average, and by 15 % at most.
    """
    served, exact = (Predictor.load("small", capacity=64, precision=how) for how in ("int8", "float32"))
    if halves and served.layers != "bfloat16":
        pytest.skip(f"this processor has no bfloat16 products ({served.instructions})")
    served._layers = Compiled(from_pretrained("small"), halves=halves)
    exact._layers = Exact(from_pretrained("small"))
    near, right = streamed(served, buses), streamed(exact, buses)
    north_m = (near.lat - right.lat) * M_PER_DEG
    east_m = (near.lon - right.lon) * M_PER_DEG * np.cos(np.radians(right.lat))
    off = np.hypot(east_m, north_m) / sigma_m(right)
    assert off.mean() > 1e-4, "the same layers twice"
    assert (off.mean(axis=0) < 0.03).all()
    assert off.max() < 0.4
    wider = np.abs(sigma_m(near) / sigma_m(right) - 1)
    assert wider.mean() < 0.015
    assert wider.max() < 0.3
    assert (near.fallback == right.fallback).all()
