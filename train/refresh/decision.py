"""Decides whether a challenger replaces the champion. Pure: comparisons in, a decision with its reasons out.

    refused at once   the weights cannot be read, are not finite, are of another shape, read other features, or were
                      trained on what they are judged by (train.refresh.statement)
    nearer            at one horizon or more nearer than the champion, beyond chance and by half a percent
    nowhere worse     at no horizon farther off, beyond chance or by half a percent; in no part of the file beyond
                      chance and by one percent. Where the part is how a thing moves just now, by five; or by fifteen if
                      all other things gain three times the metres that are lost there
    calibrated        50 and 90 % regions hold about that
    nothing forgotten on golden sets, which training had nothing of, not much farther off than the champion

Beyond chance: the 95 % interval of the paired difference, over entities, is on one side of zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

DECISION_FILE: Final = "decision.json"  # with all its numbers
ALL: Final = "all"  # the stratum of all forecasts
MOTIONS: Final = ("moving", "turning", "stopped")  # strata of train.data.anchors.motion_strata


class Comparison(NamedTuple):
    """Both on the same forecasts: one stratum of one set at one horizon. Metres; coverages are shares in 0..1."""

    file: str
    stratum: str  # ALL, or a part of the file
    horizon: str  # "next", or seconds
    n: int
    entities: int
    champion_m: float  # mean errors
    challenger_m: float
    low_m: float  # 95 % interval of challenger minus champion, over entities
    high_m: float
    champion_crps_m: float
    challenger_crps_m: float
    champion_50: float
    champion_90: float
    challenger_50: float
    challenger_90: float

    @property
    def change(self) -> float:
        """Returns how much farther off the challenger is, as a share of the champion's error."""
        return self.challenger_m / self.champion_m - 1 if self.champion_m > 0 else float(self.challenger_m > 0)


@dataclass(frozen=True)
class DecisionRules:
    """The bounds of a decision."""

    # Nearer counts from this share on: the intervals of many forecasts are so narrow that a hundredth of a percent is
    # beyond chance, and changes nobody's weights.
    gain_share: float = 0.005
    # A horizon is farther off if chance does not explain it, or if it is more than this: of two equals, one is farther
    # off by a little.
    horizon_share: float = 0.005
    # A stratum is farther off if chance does not explain it and it is more than this: of some forty strata one is
    # beyond chance by chance.
    stratum_share: float = 0.01
    # The same for those that stand, turn or move on: nobody stays in such a part. A thing of one kind does, and a
    # tracker of one cadence, so that a loss there is somebody's loss at every ping.
    motion_share: float = 0.05
    # Beyond that share metres count, too: 6.5 % of what a taxi that stands is off by are four metres, and those that
    # drive may gain forty. So much the others have to gain in sum for each metre that is lost in sum ...
    motion_gain: float = 3.0
    motion_most: float = 0.15  # ... and up to this share
    fewest_entities: int = 5  # of a stratum: of fewer, the interval says nothing
    fewest_cases: int = 200
    # Farther off on a golden set than this share. It is a bound of the mean and not of chance, because the golden sets
    # are the same every time.
    golden_share: float = 0.02
    # What 50 and 90 % regions may hold. Newer days differ from those that the regions were fitted to: the bundled
    # weights' 90 % regions hold 84 to 96 % on test splits. Where they hold 90, their 50 % regions hold 58 to 74: errors
    # have longer tails than a Gaussian, and it is the 90 % region that is fitted.
    holds_50: tuple[float, float] = (0.42, 0.76)
    holds_90: tuple[float, float] = (0.84, 0.96)


class Decision(NamedTuple):
    promote: bool
    reasons: tuple[str, ...]  # why it is refused, or what it gained
    sentence: str
    numbers: dict[str, Any]  # all that was compared, and the rules


def decide(
    faults: Sequence[str],
    judged: Sequence[Comparison],
    golden: Sequence[Comparison],
    rules: DecisionRules | None = None,
) -> Decision:
    """Returns the decision about a challenger.

    Args:
        faults: what train.refresh.statement found wrong before anything was judged.
        judged: the comparisons on the newest hours, that of ALL among them for every file and horizon.
        golden: those on golden sets.
    """
    rules = rules or DecisionRules()
    whole = [one for one in judged if one.stratum == ALL and _counts(one, rules)]
    gains = [one for one in whole if one.high_m < 0 and one.change <= -rules.gain_share]
    against = [*faults]
    if not faults:
        against += _too_little(whole, gains)
        against += [_worse(one) for one in whole if one.low_m > 0 or one.change > rules.horizon_share]
        against += [_worse(one) for one in judged if one.stratum != ALL and _is_worse(one, judged, rules)]
        against += [line for one in whole for line in _miscalibrated(one, rules)]
        against += [_forgotten(one) for one in golden if _is_forgotten(one, rules)]
    reasons = tuple(against) if against else tuple(_gain(one) for one in gains)
    numbers = {
        "rules": vars(rules),
        "judged": [_numbers(one) for one in judged],
        "golden": [_numbers(one) for one in golden],
    }
    return Decision(not against, reasons, _sentence(not against, reasons), numbers)


def _counts(one: Comparison, rules: DecisionRules) -> bool:
    return one.n >= rules.fewest_cases and one.entities >= rules.fewest_entities


def _too_little(whole: Sequence[Comparison], gains: Sequence[Comparison]) -> list[str]:
    if not whole:
        return ["too few forecasts in the newest hours to judge by"]
    return [] if gains else ["nearer at no horizon beyond chance"]


def _is_worse(one: Comparison, judged: Sequence[Comparison], rules: DecisionRules) -> bool:
    bound = rules.stratum_share
    if one.stratum in MOTIONS:
        bound = rules.motion_most if _is_outweighed(one, judged, rules) else rules.motion_share
    return _counts(one, rules) and one.low_m > 0 and one.change > bound


def _is_outweighed(one: Comparison, judged: Sequence[Comparison], rules: DecisionRules) -> bool:
    """Returns whether things that move otherwise gain so much more, in metres over all their forecasts, than is lost
    in this part."""
    gained_m = sum(
        (other.champion_m - other.challenger_m) * other.n
        for other in judged
        if other.stratum in MOTIONS
        and other.stratum != one.stratum
        and (other.file, other.horizon) == (one.file, one.horizon)
    )
    return gained_m >= rules.motion_gain * (one.challenger_m - one.champion_m) * one.n


def _is_forgotten(one: Comparison, rules: DecisionRules) -> bool:
    return one.stratum == ALL and one.n >= rules.fewest_cases and one.change > rules.golden_share


def _miscalibrated(one: Comparison, rules: DecisionRules) -> list[str]:
    """Names the regions that hold too little or too much."""
    return [
        f"{nominal} % regions hold {held:.0%} {_where(one)}, {low:.0%} to {high:.0%} is asked for"
        for nominal, held, (low, high) in (
            (50, one.challenger_50, rules.holds_50),
            (90, one.challenger_90, rules.holds_90),
        )
        if not low <= held <= high
    ]


def _gain(one: Comparison) -> str:
    return f"{-one.change:.1%} nearer {_where(one)} ({_metres(one)})"


def _worse(one: Comparison) -> str:
    return f"{one.change:.1%} farther off {_where(one)} ({_metres(one)})"


def _forgotten(one: Comparison) -> str:
    return f"forgets: {_worse(one)} on the golden set"


def _metres(one: Comparison) -> str:
    return f"{one.champion_m:,.1f} to {one.challenger_m:,.1f} m"


def _where(one: Comparison) -> str:
    at = "at the next ping" if one.horizon == "next" else f"at {one.horizon} s"
    of = "" if one.stratum == ALL else f", {one.stratum}"
    return f"{at} of {one.file}{of}"


def _sentence(promoted: bool, reasons: Sequence[str]) -> str:
    more = f", and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return f"{'Promoted' if promoted else 'Refused'}: {'; '.join(reasons[:3])}{more}."


def _numbers(one: Comparison) -> dict[str, Any]:
    return {**one._asdict(), "change": round(one.change, 5)}
