"""Live scores decide for what is so, whatever else changes meanwhile: easier entities, harder hours, few scores."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream.commands.models.guarding import MOST_VERSIONS, Scores, judge, pending
from stream.commands.models.verdicts import VerdictBounds, verdict
from stream.registry import Decision
from stream.wire import ModelRef, Outcome, Score, dumps

RULES = VerdictBounds()
HORIZONS_S = (60.0, 300.0)


def scores(
    version: str,
    n: int,
    *,
    seed: int,
    ratio: Callable[[float | None], float] = lambda horizon_s: 1.0,
    entities: int = 20,
    harder: float = 1.0,
    spread: float = 0.8,
) -> list[Score]:
    """Of a fleet whose entities differ in how hard they are: `ratio` by horizon is error over damped velocity's, in the
    mean of logs."""
    rng = np.random.default_rng(seed)
    entity = rng.integers(entities, size=n)
    # Of each entity, how hard it is: the same for all versions.
    own = np.exp(np.random.default_rng(99).normal(0, 1, 1_000))[entity, None]
    ahead = (None, *HORIZONS_S)
    ratios = np.array([ratio(one) for one in ahead])
    damped_m = 200 * own * harder * np.exp(rng.normal(0, 1, (n, len(ahead))))
    error_m = damped_m * 0.8 * own**0.3 * ratios * np.exp(rng.normal(0, spread, (n, len(ahead))))

    def outcome(h_s: float | None, error_m: float, damped_m: float) -> Outcome:
        return Outcome(h_s=h_s, dt_s=h_s or 30.0, error_m=error_m, damped_error_m=damped_m, inside90=True)

    found = []
    for at, row in enumerate(zip(entity.tolist(), error_m.tolist(), damped_m.tolist(), strict=True)):
        after, *horizons = map(outcome, ahead, *row[1:])
        found.append(
            Score(
                forecast_id=f"{version}-{seed}-{at}",
                entity_id=f"bus-{row[0]}",
                anchor_ts=at * 1000,
                model=ModelRef("small", version),
                status="ok",
                next=after,
                horizons=tuple(horizons),
            )
        )
    return found


def finding(newer: list[Score], older: list[Score], rules: VerdictBounds = RULES) -> str:
    return verdict(newer, older, rules).finding


def test_a_version_that_is_worse_is_found_and_one_that_is_as_good_is_not() -> None:
    found = [
        finding(scores("b", 3_000, seed=s, ratio=lambda h: 1.2), scores("a", 3_000, seed=100 + s)) for s in range(20)
    ]
    assert found == ["worse"] * 20
    alike = [finding(scores("b", 3_000, seed=s), scores("a", 3_000, seed=100 + s)) for s in range(40)]
    assert alike == ["no worse"] * 40


def test_worse_at_one_horizon_is_worse() -> None:
    only = verdict(
        scores("b", 3_000, seed=1, ratio=lambda h: 1.3 if h == 300.0 else 0.8), scores("a", 3_000, seed=2), RULES
    )
    assert only.finding == "worse"
    assert only.reason.startswith("300 s ahead: ")
    assert set(only.numbers["horizons"]) == {"next", "60", "300"}


def test_an_hour_that_is_harder_for_all_is_no_fault_of_a_version() -> None:
    assert finding(scores("b", 3_000, seed=1, harder=3.0), scores("a", 3_000, seed=2)) == "no worse"


def test_entities_that_are_harder_are_no_fault_either() -> None:
    """Had each score counted alike, this version would look 40 % worse: most of its scores are of entities at which
    all versions are poor."""
    own = np.exp(np.random.default_rng(99).normal(0, 1, 1_000))
    hard = {f"bus-{n}" for n in np.argsort(own[:20])[-6:]}
    newer, older = scores("b", 9_000, seed=1), scores("a", 9_000, seed=2)
    newer = [one for at, one in enumerate(newer) if one.entity_id in hard or at % 6 == 0]
    logs = [np.mean([np.log(one.next.error_m / one.next.damped_error_m) for one in some]) for some in (newer, older)]  # type: ignore[operator]
    assert logs[0] - logs[1] > 0.1
    assert finding(newer, older) == "no worse"


@pytest.mark.parametrize(("n", "entities"), [(100, 20), (3_000, 5), (0, 20)])
def test_few_scores_decide_nothing(n: int, entities: int) -> None:
    newer = scores("b", n, seed=1, ratio=lambda h: 3.0, entities=entities)
    assert finding(newer, scores("a", 3_000, seed=2)) == "too few"


def test_a_little_worse_is_within_the_margin() -> None:
    newer, older = scores("b", 3_000, seed=1, ratio=lambda h: 1.03, spread=0.1), scores("a", 3_000, seed=2, spread=0.1)
    assert finding(newer, older) == "no worse"
    assert finding(newer, older, VerdictBounds(margin=0.0)) == "worse"


def test_only_the_newest_scores_count() -> None:
    newer = scores("b", 3_000, seed=1, ratio=lambda h: 1.5) + scores("b", 3_000, seed=3)
    assert finding(newer, scores("a", 3_000, seed=2)) == "no worse"
    assert finding(newer[::-1], scores("a", 3_000, seed=2)) == "worse"


def test_what_is_no_score_is_passed_over() -> None:
    kept = Scores(100)
    (one,) = scores("b", 1, seed=1)
    assert not any(map(kept.take, (b"", b"{", b"null", b"\xff", b'{"type":"another"}')))
    assert kept.of("b") == []
    assert kept.take(dumps(one))
    assert kept.of("b") == [one]


@pytest.mark.parametrize(("what", "judged"), [("promote", [("rollback", "b", "a")]), ("rollback", [])])
def test_weights_to_which_it_rolled_back_are_not_judged_against_those_that_failed(what: Any, judged: list[Any]) -> None:
    decision = Decision(what=what, kind="weights", version="b", instead_of="a", ts=0, by="guard", reason="")
    decider: Any = SimpleNamespace(serving=SimpleNamespace(version="b"), canaries=[])
    registry: Any = SimpleNamespace(decisions=lambda: [decision])
    assert list(pending(decider, registry)) == judged


def test_what_is_kept_is_bounded_by_versions_and_scores() -> None:
    kept = Scores(100)
    for version in range(3 * MOST_VERSIONS):
        for one in scores(str(version), 150, seed=version):
            kept.add(one)
        kept.add(scores("0", 1, seed=1_000 + version)[0])  # which serves on
    sizes = [len(kept.of(str(version))) for version in range(3 * MOST_VERSIONS)]
    assert sizes[0] == 100
    assert sum(size > 0 for size in sizes) == MOST_VERSIONS
    assert max(sizes) == 100


async def test_what_the_registry_lacks_is_noted_before_anything_is_judged() -> None:
    """An operator was fenced between the announcement and the note: what is to be judged follows from that, too."""
    asked: list[str] = []

    async def catch_up() -> list[Decision]:
        asked.append("noted")
        return []

    def decisions() -> list[Decision]:
        asked.append("read")
        return []

    decider: Any = SimpleNamespace(serving=SimpleNamespace(version="b" * 16), canaries=[], catch_up=catch_up)
    registry: Any = SimpleNamespace(decisions=decisions)
    assert await judge(decider, registry, Scores(100), VerdictBounds()) == []
    assert asked[:2] == ["noted", "read"]
