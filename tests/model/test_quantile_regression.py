"""Linear quantile regression against its definition."""

from __future__ import annotations

import numpy as np

from model.quantile_regression import fit_line


def test_coefficients_have_the_asked_shares_below_them() -> None:
    rng = np.random.default_rng(0)
    terms = np.column_stack([np.ones(4_000), rng.normal(size=4_000)])
    log_s = 3 + 2 * terms[:, 1] + rng.normal(size=4_000)
    for share in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95):
        fit = fit_line(terms, log_s, share, np.ones(4_000))
        assert abs((log_s < terms @ fit).mean() - share) < 0.01


def test_a_row_of_twice_the_weight_counts_as_two() -> None:
    rng = np.random.default_rng(1)
    terms, target = np.column_stack([np.ones(50), rng.normal(size=50)]), rng.normal(size=50)
    twice = np.arange(50) < 10
    once = fit_line(np.concatenate([terms, terms[twice]]), np.concatenate([target, target[twice]]), 0.7, np.ones(60))
    np.testing.assert_allclose(fit_line(terms, target, 0.7, np.where(twice, 2.0, 1.0)), once, atol=0.02)
