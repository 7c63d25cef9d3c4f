"""Decisions that the models topic has alone: whoever took them died, or was fenced, before the registry had them. The
announcer is a list of announcements; what Kafka does to one who is fenced is played in tests/simulation."""

from __future__ import annotations

from collections.abc import AsyncIterator
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

A, B, STRANGER = "a" * 16, "b" * 16, "c" * 16


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
    """With weights A, and B that were refreshed from them; of neither the files."""
    made: Any = Registry.open(str(tmp_path))
    manifests = [SimpleNamespace(version=A, parent=None), SimpleNamespace(version=B, parent=A)]
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


async def test_canaries_from_before_the_promotion_end_with_it_and_later_ones_are_noted(registry: Registry) -> None:
    late = decider(registry, announced(1, B, "canary"), announced(2, A), announced(3, B, "canary"))
    promoted, canary = await late.catch_up()
    assert (promoted.what, promoted.version) == ("promote", A)
    assert (canary.what, canary.version, canary.numbers) == ("canary", B, {"percent": 5.0})
    assert [one.serial for one in late.canaries] == [3]


async def test_neither_a_strangers_weights_nor_the_own_challenger_are_noted(registry: Registry) -> None:
    assert await decider(registry, announced(1, STRANGER)).catch_up() == []
    assert await decider(registry, announced(1, B)).catch_up(but=B) == []
    assert registry.decisions() == []


async def test_a_reason_that_is_too_long_for_the_registry_is_cut(registry: Registry) -> None:
    (made,) = await decider(registry, replace(announced(1, A), reason="x" * 5_000)).catch_up()
    assert made.reason == "x" * 2_000


async def test_a_clock_that_is_behind_the_announcers_notes_once(registry: Registry) -> None:
    late = decider(registry, replace(announced(1, A), issued_ts=10**13))
    (made,) = await late.catch_up()
    assert made.ts == 10**13
    assert await late.catch_up() == []


async def test_who_was_fenced_after_its_announcement_learns_what_became_of_it(registry: Registry) -> None:
    """The other announcer confirmed it, and knows nothing of the registry."""
    topic = Topic(announced(1, A))
    note(registry, "promote", A, 1_001)

    @asynccontextmanager
    async def open_announcer() -> AsyncIterator[Announcer]:
        yield cast(Announcer, topic)

    async def announce_and_be_fenced(decider: Decider) -> Decision:
        topic.weights.records.append(announced(2, B))
        raise ProducerFenced

    async def be_fenced(decider: Decider) -> Decision:
        raise ProducerFenced

    made = await decide(open_announcer, registry, announce_and_be_fenced)
    assert (made.what, made.version, made.instead_of) == ("promote", B, A)
    with pytest.raises(RegistryError, match="see by `pathcast models list` what serves"):
        await decide(open_announcer, registry, be_fenced)


async def test_who_notes_after_another_has_caught_up_adds_nothing(registry: Registry) -> None:
    """A process stood still between its announcement and its note."""
    mine = decider(registry, announced(1, A))
    (noted,) = await decider(registry, announced(1, A)).catch_up()
    assert mine._note(announced(1, A), "promote", Why("mine", "me"), None) == noted
    assert registry.decisions() == [noted]
