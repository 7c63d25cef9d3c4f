"""What the judge says in words beside its tables: who is nearer, by how much, and whether that may be chance."""

from __future__ import annotations

import pytest

from train.evaluation.report import _difference_text


@pytest.mark.parametrize(
    ("difference_m", "low_m", "high_m", "said"),
    [
        (-0.8, -2.1, 0.5, "level with imm: 0.8 m (1.6 %) nearer (2.1 nearer to 0.5 farther)"),
        (-0.8, -2.1, -0.5, "0.8 m (1.6 %) nearer than imm (0.5 to 2.1 nearer)"),
        (0.8, 0.5, 120.0, "0.8 m (1.6 %) farther off than imm (0.5 to 120 farther)"),
        (0.0, 0.0, 0.0, "level with imm: 0.0 m (0.0 %) nearer (0.0 nearer to 0.0 farther)"),
        (-0.02, -0.04, -0.01, "0.02 m (0.0 %) nearer than imm (0.01 to 0.04 nearer)"),
    ],
)
def test_a_difference_is_told_with_its_interval(difference_m: float, low_m: float, high_m: float, said: str) -> None:
    found = {"baseline": "imm", "ratio": 1 + difference_m / 50, "difference_m": difference_m}
    assert _difference_text({**found, "low_m": low_m, "high_m": high_m}) == said


def test_a_baseline_without_any_error_has_no_share() -> None:
    found = {"baseline": "stay", "ratio": None, "difference_m": 0.2, "low_m": 0.1, "high_m": 0.3}
    assert _difference_text(found) == "0.2 m farther off than stay (0.1 to 0.3 farther)"
