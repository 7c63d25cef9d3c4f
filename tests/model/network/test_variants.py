"""What a ModelConfig may ask for beside the default: positions, places, targets, patches, and what cannot be served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.api import Predictor, WeightsError
from model.config import MAX_LEARNED, ModelConfig
from model.kinematics import features, map_cells
from model.network.checkpoint import from_pretrained, save_pretrained, to_parameters
from model.network.network import Network, build
from model.network.transformer import Positions

TINY = ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8)

Tracks = Callable[..., NDArray[Any]]
Unsettled = Callable[..., Network]


@pytest.mark.parametrize("way", [{"patch": 4}, {"positions": "learned"}, {"positions": "sinusoidal"}])
def test_what_cannot_be_served_is_refused_with_its_reason(way: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="cannot be served: "):
        Predictor(to_parameters(build(replace(TINY, **way), 0)), name="odd")


def test_learned_positions_end_where_their_table_ends() -> None:
    positions = Positions("learned", 16, 8)
    with pytest.raises(ValueError, match=f"end at {MAX_LEARNED} pings"):
        positions.add(torch.zeros(1, 16), torch.tensor([MAX_LEARNED]))


def test_time_rope_turns_by_seconds_and_not_by_index() -> None:
    positions = Positions("time-rope", 16, 8)
    now = torch.tensor([1_480_000_000_123])
    angles = [positions.angles(torch.tensor([i]), now + gap) for i, gap in ((0, 0), (7, 0), (7, 60_000))]
    assert all(a is not None for a in angles)
    torch.testing.assert_close(angles[0], angles[1], rtol=0, atol=0)
    assert (angles[1] - angles[2]).abs().max() > 0.1  # type: ignore[operator]


def test_only_the_time_between_two_pings_matters_to_time_rope(unsettled: Unsettled) -> None:
    net = unsettled(replace(TINY, positions="time-rope"))
    x = torch.randn(1, 30, features.width(TINY), generator=torch.Generator().manual_seed(1))
    ms = torch.arange(30)[None] * 17_003
    with torch.inference_mode():
        now, later = (net.trunk(x, None, ms + shift)[0] for shift in (0, 5 * 86_400_000 + 12_345_678))
        slower = net.trunk(x, None, 2 * ms)[0]
    torch.testing.assert_close(now, later, rtol=0, atol=1e-5)
    assert (now - slower).abs().max() > 1e-3


def test_a_patch_sees_only_whole_patches_before_it(unsettled: Unsettled) -> None:
    net = unsettled(replace(TINY, patch=4))
    x = torch.randn(1, 32, features.width(TINY), generator=torch.Generator().manual_seed(2))
    changed = x.clone()
    changed[:, 20] += 1.0  # in the sixth of eight patches
    with torch.inference_mode():
        a, b = net.trunk(x)[0], net.trunk(changed)[0]
    assert a.shape == (1, 8, 16)
    torch.testing.assert_close(a[:, :5], b[:, :5], rtol=0, atol=0)
    assert (a[:, 5] - b[:, 5]).abs().max() > 1e-3


def test_the_corners_of_a_position_share_one_at_every_level() -> None:
    rng = np.random.default_rng(3)
    keys, share = map_cells.corners(rng.uniform(-84, 84, 200), rng.uniform(-180, 180, 200))
    by_level = share.reshape(200, len(map_cells.ZOOMS), map_cells.CORNERS)
    np.testing.assert_allclose(by_level.sum(-1), 1.0, atol=1e-12)
    assert (by_level >= 0).all()
    assert len(np.unique(keys[0])) == keys.shape[1]


def test_places_on_both_sides_of_the_date_line_are_neighbours() -> None:
    west, east = (set(map_cells.corners(np.array([12.0]), np.array([lon]))[0][0]) for lon in (179.99999, -179.99999))
    assert west == east


def test_a_place_fades_into_its_neighbour_without_a_jump(unsettled: Unsettled) -> None:
    lat = np.linspace(30.0, 30.02, 4001)  # half a metre apart, across several cells of every size but the largest
    lon = np.full(4001, -97.0)
    net = unsettled(replace(TINY, places=4000))
    assert net.trunk.places is not None
    net.trunk.places.know(map_cells.most_visited(lat, lon, 4000, 1))
    with torch.inference_mode():
        vector = net.trunk.places(net.trunk.places.find(lat, lon)).numpy()
    step = np.abs(np.diff(vector, axis=0)).max()
    assert np.ptp(vector, axis=0).max() > 50 * step


def test_an_unknown_place_and_no_place_are_the_same(unsettled: Unsettled) -> None:
    net = unsettled(replace(TINY, places=100))
    assert net.trunk.places is not None
    net.trunk.places.know(map_cells.most_visited(np.full(9, 30.0), np.full(9, -97.0), 100, 1))
    with torch.inference_mode():
        home, away, none = (
            net.trunk.places(net.trunk.places.find(np.array([lat]), np.array([lon])))
            for lat, lon in ((30.0, -97.0), (-33.0, 151.0), (np.nan, np.nan))
        )
    torch.testing.assert_close(away, none, rtol=0, atol=0)
    assert (home - none).abs().max() > 1e-3


def test_only_cells_visited_often_enough_are_known() -> None:
    lat, lon = np.repeat([30.0, 45.0], [20, 2]), np.repeat([-97.0, 9.0], [20, 2])
    keys = map_cells.most_visited(lat, lon, 1000, 10)
    known = np.isin(map_cells.corners(np.array([30.0, 45.0]), np.array([-97.0, 9.0]))[0], keys)
    assert known[0].all()
    assert not known[1].any()
    assert len(map_cells.most_visited(lat, lon, 5, 1)) == 5


def test_absolute_targets_say_where_the_region_is_not_where_the_fix_is(tracks: Tracks) -> None:
    """Untrained, every forecast is the region's origin, wherever the thing is."""
    config = replace(TINY, target="absolute", absolute=True, origin_lat_deg=30.3, origin_lon_deg=-97.6)
    predictor = Predictor.untrained(config, capacity=4)
    slots = predictor.acquire(3)
    predictor.rebuild(slots, list(tracks(3, 40, seed=5)))
    answer = predictor.forecast(slots, (60.0, 900.0))
    np.testing.assert_allclose(answer.lat, 30.3, atol=1e-4)
    np.testing.assert_allclose(answer.lon, -97.6, atol=1e-3)


def test_an_untrained_delta_model_stays(tracks: Tracks) -> None:
    predictor = Predictor.untrained(replace(TINY, target="delta"), capacity=4)
    slots, fixes = predictor.acquire(2), tracks(2, 40, seed=6)
    predictor.rebuild(slots, list(fixes))
    answer = predictor.forecast(slots, (60.0,))
    np.testing.assert_allclose(answer.lat[:, 0], fixes["lat_e7"][:, -1] / 1e7, atol=1e-9)


def test_a_map_whose_cells_are_out_of_order_is_refused(unsettled: Unsettled, tmp_path: Path) -> None:
    """A search in them would find nothing, silently: every place would be unknown."""
    net = unsettled(replace(TINY, places=4))
    assert net.trunk.places is not None
    net.trunk.places.know(np.array([5, 3, 9], np.int64))
    save_pretrained(net, tmp_path / "w", "card")
    with pytest.raises(WeightsError, match="not in order"):
        from_pretrained(tmp_path / "w")


def test_a_map_survives_its_file_to_half_precision(unsettled: Unsettled, tmp_path: Path) -> None:
    net = unsettled(replace(TINY, places=50))
    assert net.trunk.places is not None
    net.trunk.places.know(np.arange(0, 400, 10, dtype=np.int64))
    save_pretrained(net, tmp_path / "w", "card")
    again = from_pretrained(tmp_path / "w").trunk.places
    assert again is not None
    assert torch.equal(again.keys, net.trunk.places.keys)
    torch.testing.assert_close(again.table, net.trunk.places.table, rtol=1e-3, atol=1e-6)
