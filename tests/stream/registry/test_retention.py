"""What a registry need not keep: never what serves, what a rollback would need, or what something recent names."""

from __future__ import annotations

import pytest

from stream.registry import Data, Decision, Manifest
from stream.registry.decisions import DAY_MS, Retention, What, find_deletable

NOW = 100 * DAY_MS


def version(number: int) -> str:
    return f"{number:016x}"


def manifest(number: int, parent: int | None = None) -> Manifest:
    return Manifest(
        kind="weights", name="w", version=version(number), parent=None if parent is None else version(parent),
        created_ts=number, content="0" * 64, files={}, command="", seed=None, program="0", data=Data(), metrics={},
        note="",
    )  # fmt: skip


def decision(number: int, day: int, what: What = "promote", instead_of: int | None = None) -> Decision:
    before = None if instead_of is None else version(instead_of)
    return Decision(
        what=what, kind="weights", version=version(number), instead_of=before, ts=day * DAY_MS, by="test", reason=""
    )


def gone(manifests: list[Manifest], decisions: list[Decision], in_use: set[int], keep: Retention) -> list[int]:
    used = {version(number) for number in in_use}
    return [int(one.version, 16) for one in find_deletable(manifests, decisions, used, NOW, keep)]


def test_the_newest_stay_and_the_oldest_go_first() -> None:
    all_of_them = [manifest(number) for number in (5, 1, 4, 2, 3)]
    assert gone(all_of_them, [], set(), Retention(newest=2)) == [1, 2, 3]
    assert gone(all_of_them, [], set(), Retention(newest=9)) == []
    assert gone(all_of_them, [], set(), Retention(newest=0)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("day", "left"), [(99, [3]), (70, [3]), (69, [1, 2, 3])])
def test_what_a_decision_of_these_days_names_stays(day: int, left: list[int]) -> None:
    manifests = [manifest(number) for number in (1, 2, 3)]
    assert gone(manifests, [decision(1, day, "canary", instead_of=2)], set(), Retention(newest=0, days=30)) == left


def test_what_serves_and_what_a_rollback_from_it_needs_stay_however_old() -> None:
    manifests = [manifest(1), manifest(2), manifest(3, parent=1), manifest(4, parent=3)]
    assert gone(manifests, [decision(3, 1, instead_of=2)], {3}, Retention(newest=0)) == [4]
    assert gone(manifests, [], {4}, Retention(newest=0)) == [1, 2]
