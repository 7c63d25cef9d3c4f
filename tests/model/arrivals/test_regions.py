"""The chance of a t in an area: closed form against draws, against what is known, and against itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.arrivals.regions import circle_chance, in_polygon, polygon_chance

COV_OF_SCALE = 1.878
SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
metres = st.floats(-3_000, 3_000)
sigmas = st.floats(1.0, 1_000.0)


def draws(count: int, mean: np.ndarray, cov: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of the t with 4 degrees of freedom whose scale matrix is cov / 1.878."""
    ee, en, nn = cov / COV_OF_SCALE
    root = np.linalg.cholesky(np.array([[ee, en], [en, nn]]))
    normal = rng.normal(size=(count, 2)) @ root.T
    return mean + normal / np.sqrt(rng.chisquare(4, size=count) / 4)[:, None]


def test_a_disc_around_the_mean_holds_what_the_radial_law_says() -> None:
    sigma = np.array([50.0, 10.0, 400.0])
    cov = np.stack([sigma**2, 0 * sigma, sigma**2], axis=-1)
    radius = 120.0
    expected = 1 - (1 + radius**2 / (sigma**2 / COV_OF_SCALE) / 4) ** -2.0
    for number, one in enumerate(expected):
        (got,) = circle_chance(np.zeros(2), radius, np.zeros((1, 2)), cov[number : number + 1])
        assert abs(got - one) < 2e-4


def test_the_published_90_percent_radius_holds_90_percent() -> None:
    cov = np.array([[2_500.0, 0.0, 2_500.0]])
    radius = 50.0 * np.sqrt(4 * (0.1**-0.5 - 1) / COV_OF_SCALE)
    assert abs(circle_chance(np.zeros(2), radius, np.zeros((1, 2)), cov)[0] - 0.9) < 2e-4


def test_chances_are_the_shares_of_draws() -> None:
    seed = 7
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    ring = np.array([(-300.0, -80.0), (150.0, -260.0), (90.0, 40.0), (400.0, 300.0), (-120.0, 120.0)])  # not convex
    hole = 0.3 * ring
    for _ in range(6):
        mean = rng.normal(size=2) * 250
        east, north = np.exp(rng.uniform(2, 6, 2))
        cov = np.array([east**2, rng.uniform(-0.95, 0.95) * east * north, north**2])
        drawn = draws(40_000, mean, cov, rng)
        inside = _inside(ring, drawn) & ~_inside(hole, drawn)
        (got,) = polygon_chance([ring, hole], mean[None], cov[None])
        assert abs(got - inside.mean()) < 0.011  # four and a half standard errors
        in_circle = np.linalg.norm(drawn - 100, axis=-1) <= 180
        (got,) = circle_chance(np.full(2, 100.0), 180.0, mean[None], cov[None])
        assert abs(got - in_circle.mean()) < 0.011


@given(metres, metres, sigmas, sigmas, st.floats(-0.99, 0.99), st.floats(0.1, 0.9))
@settings(max_examples=200, deadline=None)
def test_two_parts_of_an_area_have_its_chance_together(
    east: float, north: float, sigma_e: float, sigma_n: float, rho: float, share: float
) -> None:
    mean, cov = np.array([[east, north]]), np.array([[sigma_e**2, rho * sigma_e * sigma_n, sigma_n**2]])
    square = 500 * SQUARE
    cut = 1_000 * share - 500
    left = np.array([(-500, -500), (cut, -500), (cut, 500), (-500, 500)], float)
    right = np.array([(cut, -500), (500, -500), (500, 500), (cut, 500)], float)
    whole = polygon_chance([square], mean, cov)[0]
    parts = polygon_chance([left], mean, cov)[0] + polygon_chance([right], mean, cov)[0]
    assert abs(whole - parts) < 1e-9
    assert 0.0 <= whole <= 1.0


@given(metres, metres, sigmas, sigmas, st.floats(-0.99, 0.99), st.floats(0, 6.3))
@settings(max_examples=200, deadline=None)
def test_a_chance_depends_neither_on_the_direction_of_axes_nor_of_the_outline(
    east: float, north: float, sigma_e: float, sigma_n: float, rho: float, angle: float
) -> None:
    mean, matrix = np.array([east, north]), np.array([[sigma_e**2, rho * sigma_e * sigma_n], [0, sigma_n**2]])
    matrix[1, 0] = matrix[0, 1]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = turn @ matrix @ turn.T
    area = np.array([(-200.0, 0.0), (300.0, -100.0), (250.0, 400.0)])
    first = polygon_chance([area], mean[None], np.array([[matrix[0, 0], matrix[0, 1], matrix[1, 1]]]))
    second = polygon_chance(
        [(area @ turn.T)[::-1]], (turn @ mean)[None], np.array([[turned[0, 0], turned[0, 1], turned[1, 1]]])
    )
    np.testing.assert_allclose(first, second, atol=1e-7)


@given(metres, metres, sigmas, st.floats(5, 2_000), st.floats(1.01, 3.0))
@settings(max_examples=200, deadline=None)
def test_a_larger_circle_holds_more(east: float, north: float, sigma: float, radius: float, times: float) -> None:
    mean, cov = np.array([[east, north]]), np.array([[sigma**2, 0.3 * sigma**2, sigma**2]])
    small, large = (circle_chance(np.zeros(2), r, mean, cov)[0] for r in (radius, times * radius))
    assert small <= large + 1e-12


def test_hardly_any_spread_makes_it_certain() -> None:
    cov = np.zeros((3, 3))
    mean = np.array([(0.0, 0.0), (0.9, 0.9), (1.1, 0.0)])
    np.testing.assert_allclose(polygon_chance([SQUARE], mean, cov), (1, 1, 0), atol=0.01)


def test_a_place_is_in_an_outline_and_not_in_its_hole() -> None:
    assert in_polygon([10 * SQUARE], np.array([3.0, -9.0]))
    assert not in_polygon([10 * SQUARE, 5 * SQUARE], np.array([3.0, -4.0]))
    assert not in_polygon([10 * SQUARE], np.array([11.0, 0.0]))


def _inside(ring: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.array([in_polygon([ring], place) for place in places])
