"""When a challenger is promoted, and each reason for which it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from train.refresh.decision import ALL, Comparison, DecisionRules, decide

CITY, TOWNS = "taxis.parquet", "golden.parquet"


def one(stratum: str = ALL, horizon: str = "60", *, file: str = CITY, **changes: float) -> Comparison:
    """Of 1,000 forecasts of 50 taxis, at which the challenger is a tenth nearer."""
    plain = Comparison(file, stratum, horizon, 1000, 50, 200.0, 180.0, -24.0, -16.0, 150.0, 135.0, 0.5, 0.9, 0.52, 0.9)
    return plain._replace(**changes)


def same(file: str = TOWNS, **changes: float) -> Comparison:
    """Where nothing was changed."""
    return one(file=file, challenger_m=200.0, low_m=0.0, high_m=0.0)._replace(**changes)


GOOD = [one(horizon=horizon) for horizon in ("next", "60", "300", "900")]


def refused(judged: list[Comparison], golden: list[Comparison] | None = None) -> tuple[str, ...]:
    decision = decide([], judged, [same()] if golden is None else golden)
    assert not decision.promote
    assert decision.sentence.startswith("Refused: ")
    return decision.reasons


def test_what_is_nearer_everywhere_and_forgets_nothing_is_promoted() -> None:
    decision = decide([], GOOD, [same()])
    assert decision.promote
    assert decision.sentence.startswith("Promoted: 10.0% nearer at the next ping of taxis.parquet (200.0 to 180.0 m); ")
    assert [row["horizon"] for row in decision.numbers["judged"]] == ["next", "60", "300", "900"]
    assert decision.numbers["rules"] == vars(DecisionRules())


def test_a_fault_refuses_whatever_the_numbers_are() -> None:
    decision = decide(["trained on the judged hours"], GOOD, [same()])
    assert not decision.promote
    assert decision.sentence == "Refused: trained on the judged hours."


def test_a_gain_that_chance_explains_is_none() -> None:
    by_chance = [one(horizon=horizon, challenger_m=199.0, low_m=-4.0, high_m=2.0) for horizon in ("next", "60")]
    assert refused(by_chance) == ("nearer at no horizon beyond chance",)


def test_one_horizon_that_is_farther_off_refuses() -> None:
    worse = one(horizon="900", champion_m=2000.0, challenger_m=2040.0, low_m=-5.0, high_m=90.0)
    assert refused([*GOOD[:3], worse]) == ("2.0% farther off at 900 s of taxis.parquet (2,000.0 to 2,040.0 m)",)


def test_equals_within_chance_are_not_farther_off() -> None:
    """Half a percent, and chance explains it; either of the two alone would refuse."""
    about = one(horizon="900", challenger_m=200.9, low_m=-3.0, high_m=5.0)
    assert decide([], [*GOOD[:3], about], [same()]).promote
    assert not decide([], [*GOOD[:3], about._replace(low_m=0.1)], [same()]).promote
    assert not decide([], [*GOOD[:3], about._replace(challenger_m=201.5)], [same()]).promote


def test_better_on_average_and_worse_for_buses_is_refused() -> None:
    buses = one("bus", n=250, entities=6, challenger_m=220.0, low_m=9.0, high_m=31.0)
    assert refused([*GOOD, buses]) == ("10.0% farther off at 60 s of taxis.parquet, bus (200.0 to 220.0 m)",)


@pytest.mark.parametrize(
    "excuse", [{"low_m": -1.0}, {"entities": 4}, {"n": 100}, {"challenger_m": 201.0}], ids=lambda one: next(iter(one))
)
def test_a_stratum_refuses_only_beyond_chance_and_with_enough_in_it(excuse: dict[str, float]) -> None:
    buses = one("bus", n=250, entities=6, challenger_m=220.0, low_m=9.0, high_m=31.0)
    assert decide([], [*GOOD, buses._replace(**excuse)], [same()]).promote


def test_what_stands_now_may_lose_a_little_for_it_moves_on() -> None:
    standing = one("stopped", challenger_m=208.0, low_m=4.0, high_m=12.0)  # 4 %
    assert decide([], [*GOOD, standing], [same()]).promote
    assert not decide([], [*GOOD, standing._replace(stratum="cadence 45-90 s")], [same()]).promote
    assert not decide([], [*GOOD, standing._replace(challenger_m=212.0)], [same()]).promote


def test_what_stands_may_lose_more_where_those_that_drive_gain_many_times_the_metres() -> None:
    """A day of taxis was refused for four metres of those that stood, when those that drove were 14 % nearer."""
    standing = one("stopped", champion_m=64.9, challenger_m=69.1, low_m=3.1, high_m=5.3)  # 6.5 %
    driving = one("moving", champion_m=250.0, challenger_m=215.0)
    assert decide([], [*GOOD, standing, driving], [same()]).promote
    assert not decide([], [*GOOD, standing], [same()]).promote, "nobody gains as much"
    assert not decide([], [*GOOD, standing, driving._replace(n=300)], [same()]).promote, "few gain it"
    assert not decide([], [*GOOD, standing, driving._replace(horizon="300")], [same()]).promote, "at another horizon"
    assert not decide([], [*GOOD, standing, driving._replace(file="b")], [same()]).promote, "of another fleet"
    assert not decide([], [*GOOD, standing._replace(challenger_m=76.0), driving], [same()]).promote, "17 %"


@pytest.mark.parametrize(("nominal", "held"), [("50", 0.30), ("50", 0.80), ("90", 0.70), ("90", 0.99)])
def test_regions_that_hold_too_little_or_too_much_refuse(nominal: str, held: float) -> None:
    (reason,) = refused([*GOOD[:3], one(horizon="900", **{f"challenger_{nominal}": held})])
    assert reason.startswith(f"{nominal} % regions hold {held:.0%} at 900 s of taxis.parquet, ")


def test_what_is_forgotten_of_another_region_refuses() -> None:
    assert refused(GOOD, [same(), same(horizon="300", challenger_m=205.0)]) == (
        "forgets: 2.5% farther off at 300 s of golden.parquet (200.0 to 205.0 m) on the golden set",
    )


def test_the_golden_set_need_not_become_nearer() -> None:
    assert decide([], GOOD, [same(challenger_m=203.0)]).promote


def test_nothing_to_judge_by_refuses() -> None:
    few = [one(n=150), one(horizon="900", entities=4)]
    assert refused(few) == ("too few forecasts in the newest hours to judge by",)


def test_the_sentence_names_three_reasons_and_counts_the_rest() -> None:
    worse = [replace_horizon(horizon) for horizon in ("next", "60", "300", "900")]
    decision = decide([], worse, [])
    assert decision.sentence.endswith(", and 2 more.")
    assert len(decision.reasons) == 5  # nothing is nearer, and four horizons are farther off


def replace_horizon(horizon: str) -> Comparison:
    return one(horizon=horizon, challenger_m=210.0, low_m=2.0, high_m=18.0)


def test_the_bounds_can_be_others() -> None:
    strict = replace(DecisionRules(), golden_share=0.0)
    assert not decide([], GOOD, [same(challenger_m=200.1)], strict).promote
