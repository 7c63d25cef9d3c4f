"""Workers of one group that do not have the same weights, as during an upgrade that goes worker by worker.

The rule: a forecast names the weights that made it, and nothing of other weights is in its numbers. Whoever takes an
entity over from a worker of other weights rebuilds its state from its window, and the next forecast says so (`cache`
is `rebuilt`). The track, the offsets and the epochs are of no model, so nothing is lost, and under exactly_once nothing
is answered twice. Under at_least_once a copy of an answer may be of the other weights, and then has another id.

The verifier replays with one set of weights. What others answered it holds against that in all but the numbers, and it
skips their states. So each of two verdicts judges the numbers that the other leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Final

from bus_feed import Raw
from chaos_rig import Rig
from faults import fault_that_may

OTHER: Final = "small-research"  # it sees where it is, and `small` does not
OF_OTHERS: Final = ("other_model", "states_skipped")
BECAUSE: Final = (
    "the verifier replays with one set of weights; a second verdict, with the other set, judges the numbers and the "
    "states that the first leaves out"
)


@fault_that_may(*OF_OTHERS, because=BECAUSE)
def weights_mixed_in_one_group(rig: Rig) -> None:
    """A worker with `small` and one with `small-research` share a group. One is killed at its work, the other takes its
    partitions over, another of the same weights comes; then the same with the other weights."""
    fleet = rig.fleet()
    (small,), (other,) = rig.start(), rig.start(weights=OTHER)
    _a_third(rig, fleet)
    rig.reach(0.15)
    rig.kill(small)
    rig.consumed()
    rig.start()
    _a_third(rig, fleet)
    rig.reach(0.5)
    rig.kill(other)
    rig.consumed()
    rig.start(weights=OTHER)
    _a_third(rig, fleet)  # both answer the last one, so that there are states of both in the end
    rig.consumed()
    rig.stop_all()
    _assert_the_others_hold(rig)


def _a_third(rig: Rig, fleet: Iterator[Raw]) -> None:
    rig.feed(islice(fleet, math.ceil(rig.pings / 3)), over_s=12)


def _assert_the_others_hold(rig: Rig) -> None:
    """What was answered with the other weights. The verdict that every fault gets is for `small`."""
    verdict = rig.verdict(weights=OTHER)
    wrong = verdict.wrong(allowed=frozenset(OF_OTHERS))
    assert not wrong, f"judged with {OTHER}: {wrong}"
    answers, of_small = verdict.total["forecasts"] + verdict.total["gap_fills"], verdict.total["other_model"]
    assert 0 < of_small < answers, f"{of_small} of {answers} answers are not of {OTHER}: nothing was mixed"
    rig.notes.append(f"{of_small:,} of {answers:,} answers were of `small` (seed {rig.seed}, {rig.delivery})")
