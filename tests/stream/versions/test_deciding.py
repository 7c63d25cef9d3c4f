"""Decisions that the models topic has alone: whoever took them died, or was fenced, before the registry had them. The
announcer is a list of announcements; what Kafka does to one who is fenced is played in tests/simulation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import ProducerFenced
from msgspec.structs import replace

from stream.registry import Decision, Registry, RegistryError, standings
from stream.versions.announcing import Announcer
from stream.versions.deciding import BY_TOPIC, Decider, Why, decide
from stream.wire import WeightsRecord

A, B, C, STRANGER = "a" * 16, "b" * 16, "c" * 16, "d" * 16


def announced(serial: int, version: str, role: Any = "all") -> WeightsRecord:
    return WeightsRecord(
        kind="weights",
        serial=serial,
        version=version,
        name="tiny",
        role=role,
        state="serving",
        parts=500 if role == "canary" else 10_000,
        first={0: serial},
        ramp={},
        topic="pings",
        reason=f"announcement {serial}",
        issued_ts=1_000 * serial,
    )


class Topic:
    """Stands for the announcer of a models topic with these announcements."""

    def __init__(self, *records: WeightsRecord) -> None:
        self.weights = SimpleNamespace(records=list(records))

    async def end(self, record: WeightsRecord) -> None:
        at = self.weights.records.index(record)
        self.weights.records[at] = replace(record, until={0: 99})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """With weights A, B that were refreshed from them, and C from those; of none the files."""
    made: Any = Registry.open(str(tmp_path))
    manifests = [SimpleNamespace(version=A, parent=None), SimpleNamespace(version=B, parent=A)]
    manifests.append(SimpleNamespace(version=C, parent=B))
    made.manifests = lambda kind: manifests
    return cast(Registry, made)


def decider(registry: Registry, *records: WeightsRecord) -> Decider:
    return Decider(registry, cast(Announcer, Topic(*records)))


def note(registry: Registry, what: Any, version: str, ts: int, instead_of: str | None = None) -> None:
    registry.decide(
        Decision(what=what, kind="weights", version=version, ts=ts, by="test", reason="", instead_of=instead_of)
    )


async def test_what_the_topic_has_alone_is_noted_once(registry: Registry) -> None:
    note(registry, "promote", A, 1_001)
    late = decider(registry, announced(1, A), announced(2, B))
    (made,) = await late.catch_up()
    assert (made.what, made.version, made.instead_of, made.by) == ("promote", B, A, BY_TOPIC)
    assert made.reason == "announcement 2"
    assert await late.catch_up() == []
    assert standings(registry.decisions()) == {("weights", A): "replaced", ("weights", B): "serving"}


async def test_a_return_to_what_served_before_is_a_rollback(registry: Registry) -> None:
    """So that `refresh` does not promote the other again."""
    note(registry, "promote", B, 1_001)
    (made,) = await decider(registry, announced(1, B), announced(2, A)).catch_up()
    assert (made.what, made.version, made.instead_of) == ("rollback", A, B)


async def test_an_announcement_of_weights_that_served_once_before_is_not_taken_for_noted(registry: Registry) -> None:
    note(registry, "promote", A, 1_001)
    note(registry, "promote", B, 2_001, instead_of=A)
    records = announced(1, A), announced(2, B), announced(3, A)
    (made,) = await decider(registry, *records).catch_up()
    assert (made.what, made.version, made.instead_of) == ("rollback", A, B)


async def test_a_return_to_what_was_replaced_long_ago_is_a_rollback(registry: Registry) -> None:
    for at, (version, before) in enumerate([(A, None), (B, A), (C, B)], 1):
        note(registry, "promote", version, 1_000 * at + 1, before)
    (made,) = await decider(registry, announced(3, C), announced(4, A)).catch_up()
    assert (made.what, made.version, made.instead_of) == ("rollback", A, C)


async def test_weights_that_were_rolled_back_and_serve_again_are_promoted(registry: Registry) -> None:
    """Else those to which it was rolled back would be barred."""
    note(registry, "promote", A, 1_001)
    note(registry, "promote", B, 2_001, instead_of=A)
    note(registry, "rollback", A, 3_001, instead_of=B)
    (made,) = await decider(registry, announced(3, A), announced(4, B)).catch_up()
    assert (made.what, made.version, made.instead_of) == ("promote", B, A)


async def test_what_served_before_is_what_the_topic_says(registry: Registry) -> None:
    """The promotion of B was never noted either."""
    note(registry, "promote", A, 1_001)
    records = announced(1, A), announced(2, B), announced(3, A)
    (made,) = await decider(registry, *records).catch_up()
    assert (made.version, made.instead_of) == (A, B)


async def test_canaries_from_before_the_promotion_end_with_it_and_later_ones_are_noted(registry: Registry) -> None:
    late = decider(registry, announced(1, B, "canary"), announced(2, A), announced(3, B, "canary"))
    promoted, canary = await late.catch_up()
    assert (promoted.what, promoted.version) == ("promote", A)
    assert (canary.what, canary.version, canary.numbers) == ("canary", B, {"percent": 5.0})
    assert [one.serial for one in late.canaries] == [3]


async def test_neither_a_strangers_weights_nor_the_own_challenger_are_noted(registry: Registry) -> None:
    assert await decider(registry, announced(1, STRANGER)).catch_up() == []
    assert await decider(registry, announced(1, B)).catch_up(except_version=B) == []
    assert registry.decisions() == []


async def test_a_reason_that_is_too_long_for_the_registry_is_cut(registry: Registry) -> None:
    (made,) = await decider(registry, replace(announced(1, A), reason="x" * 5_000)).catch_up()
    assert made.reason == "x" * 2_000


async def test_a_clock_that_is_behind_the_announcers_notes_once(registry: Registry) -> None:
    soon = round(time.time() * 1000) + 60_000
    late = decider(registry, replace(announced(1, A), issued_ts=soon))
    (made,) = await late.catch_up()
    assert made.ts == soon
    assert await late.catch_up() == []


async def test_a_clock_that_is_days_ahead_orders_no_decisions(registry: Registry) -> None:
    late = decider(registry, replace(announced(1, A), issued_ts=10**17))
    (made,) = await late.catch_up()
    assert made.ts <= time.time() * 1000
    assert await late.catch_up() == []


async def decide_and_be_fenced(registry: Registry, topic: Topic, then: Callable[[], None]) -> Decision:
    """Promotes B. Another announcer begins once it is announced, or before, and `then` is what it does."""

    @asynccontextmanager
    async def open_announcer() -> AsyncIterator[Announcer]:
        yield cast(Announcer, topic)

    async def take(own: Decider) -> Decision:
        own.announcement = ("all", B, 2_000)
        then()
        raise ProducerFenced

    return await decide(open_announcer, registry, take)


async def test_who_was_fenced_after_its_announcement_learns_what_became_of_it(registry: Registry) -> None:
    topic = Topic(announced(1, A))
    note(registry, "promote", A, 1_001)
    made = await decide_and_be_fenced(registry, topic, lambda: topic.weights.records.append(announced(2, B)))
    assert (made.what, made.version, made.instead_of, made.by) == ("promote", B, A, BY_TOPIC)


async def test_who_was_fenced_learns_it_also_if_another_has_noted_it(registry: Registry) -> None:
    topic = Topic(announced(1, A))
    note(registry, "promote", A, 1_001)

    def confirm_and_note() -> None:
        topic.weights.records.append(announced(2, B))
        note(registry, "promote", B, 2_001, instead_of=A)

    made = await decide_and_be_fenced(registry, topic, confirm_and_note)
    assert (made.what, made.version, made.by) == ("promote", B, "test")


@pytest.mark.parametrize(
    "other", [None, announced(2, B, "canary"), announced(2, A), replace(announced(2, B), issued_ts=1)]
)
async def test_what_another_has_announced_is_not_what_was_asked_for(
    registry: Registry, other: WeightsRecord | None
) -> None:
    topic = Topic(announced(1, A))
    note(registry, "promote", A, 1_001)
    with pytest.raises(RegistryError, match="see by `pathcast models list` what serves"):
        await decide_and_be_fenced(registry, topic, lambda: topic.weights.records.extend([other] if other else []))


async def test_who_asks_again_learns_first_what_was_noted_late(registry: Registry) -> None:
    """A rollback that was announced and not noted, asked for once more, would return to what was rolled back."""
    topic = Topic(announced(1, A), announced(2, B))
    note(registry, "promote", A, 1_001)
    with pytest.raises(RegistryError, match=f"has it now: promote {B}. Ask again"):
        await decide_and_be_fenced(registry, topic, lambda: pytest.fail("it was tried"))
    assert [one.version for one in registry.decisions()] == [A, B]


async def test_a_canary_that_was_stopped_and_not_noted_can_be_stopped_again(registry: Registry) -> None:
    note(registry, "canary", B, 2_001)
    stopping = decider(registry, announced(1, A), replace(announced(2, B, "canary"), until={0: 9}))
    registry.manifest = lambda kind, version: SimpleNamespace(version=version)  # type: ignore[method-assign,assignment,return-value]
    assert (await stopping.stop(B, Why("worse", "me"))).what == "stop"
    with pytest.raises(RegistryError, match="are no canary"):
        await stopping.stop(B, Why("worse", "me"))


async def test_who_notes_after_another_has_caught_up_adds_nothing(registry: Registry) -> None:
    """A process stood still between its announcement and its note."""
    mine = decider(registry, announced(1, A))
    (noted,) = await decider(registry, announced(1, A)).catch_up()
    assert mine._note(announced(1, A), "promote", Why("mine", "me"), None) == noted
    assert registry.decisions() == [noted]
