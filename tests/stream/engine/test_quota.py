"""A partition with as many entities as its quota lets it have: new ones are refused, known ones never."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from engine_rig import CHECKPOINT, CRASH, SETTINGS, A, Rig, code_of, forecasts, letters, ping, steady
from faulty import FaultyFold, Worker, poison
from verify_rig import sound_verdict, verdict, wrong

from model.api import Predictor
from stream.config.settings import Settings
from stream.engine.engine import Engine
from stream.engine.entities.quota import ENTITY_QUOTA_EXCEEDED
from stream.store.base import MemoryStore
from stream.wire import CODES, Outgoing

Make = Callable[..., Predictor]


class Tight(Rig):
    """Two entities at most."""

    most = 2

    def started(self) -> Engine:
        settings = replace(SETTINGS, max_stored_entities=self.most)
        engine = Engine(self.make(), self.store, settings, clock_ms=lambda: 30.0, max_resident=self.max_resident)
        assert isinstance(self.store, MemoryStore)
        engine.note_stored(self.partition, len(self.store._index.get(self.partition, ())))  # as a takeover does
        return engine


@pytest.fixture
def tight(make_predictor: Make) -> Tight:
    return Tight(make_predictor)


def who(answers: list[Outgoing]) -> tuple[list[str], list[str]]:
    """The entities that were forecast, and those that were refused."""
    refused = [letter for letter in letters(answers) if code_of(letter) == ENTITY_QUOTA_EXCEEDED]
    return [one["entity_id"] for one in forecasts(answers)], [(letter.key or b"").decode() for letter in refused]


async def test_a_new_entity_beyond_the_quota_becomes_a_dead_letter(tight: Tight) -> None:
    answers = await tight.feed(ping("a", 0), ping("b", 0), ping("c", 0), ping("a", 10), ping("c", 10), ping("b", 10))
    assert who(answers) == (["a", "b", "a", "b"], ["c", "c"])
    (letter, _) = letters(answers)
    headers = dict(letter.headers)
    assert (letter.value, letter.key) == (tight.log[2].value, b"c")
    assert headers["__pathcast.errors.retryable"] == b"true"
    assert b"--max-stored-entities" in (headers["__pathcast.errors.message"] or b"")
    counts = tight.counts
    assert (counts.over_quota, counts.rejects, counts.forecasts, counts.records_in) == (2, 2, 4, 6)
    assert ENTITY_QUOTA_EXCEEDED in CODES


async def test_in_one_batch_the_first_come_are_taken(tight: Tight) -> None:
    answers = await tight.batch(ping("a", 0), ping("c", 0), ping("b", 0), ping("a", 10), ping("c", 10))
    assert who(list(answers)) == (["a", "c", "a", "c"], ["b"])


async def test_who_is_known_is_never_refused_wherever_it_is(tight: Tight) -> None:
    tight.max_resident = 1
    tight.engine = tight.started()
    await tight.feed(ping("a", 0), ping("b", 0), CHECKPOINT)
    assert tight.engine.entities[A] == (1, 0), "the other is in the store"
    answers = await tight.feed(
        ping("c", 0), ping("a", 10), ping("b", 10), CHECKPOINT, CRASH, ping("c", 10), ping("a", 20)
    )
    assert who(answers) == (["a", "b", "a"], ["c", "c"])
    assert [one["window"]["n"] for one in forecasts(answers)] == [2, 2, 3]


async def test_when_others_have_expired_there_is_room(tight: Tight) -> None:
    await tight.feed(ping("a", 0), ping("b", 0), CHECKPOINT, ping("c", 0))
    assert isinstance(tight.store, MemoryStore)
    for kept in (tight.store._records, tight.store._index):
        kept[A] = {"b": kept[A]["b"]} if isinstance(kept[A], dict) else {"b"}
    answers = await tight.feed(ping("b", 10), CHECKPOINT, ping("c", 10))
    assert who(answers) == (["b", "c"], [])
    assert tight.engine.stored_entities[A] == 2


async def test_who_is_known_and_lost_by_the_store_is_not_refused(tight: Tight) -> None:
    """A flood's ids come first in the log that a rebuild reads, and would take the places of those to be rebuilt."""
    await tight.feed(ping("made-up", 0), ping("a", 0), CHECKPOINT, ping("more", 0), ping("more", 10))
    await tight.store.unlist(A, tight.epoch, ["a"], 0)
    tight.engine = tight.started()
    tight.engine.note_evicted(A, ["a"])
    assert isinstance(tight.store, MemoryStore)
    del tight.store._records[A]["a"]
    tight.engine.note_stored(A, 1)
    log = [tight.log[2], *tight.log[:2]]
    await tight.engine.process(log, started_ms=0, fetched_ms=0, silent=True)
    assert who(await tight.feed(ping("a", 10), ping("b", 0))) == (["a"], ["b"])


async def test_a_replay_refuses_whom_the_owner_before_has_refused(tight: Tight) -> None:
    await tight.feed(ping("a", 0), CHECKPOINT, ping("b", 0), ping("c", 0), CRASH)
    assert tight.engine.entities[A] == (1, 0), "only b was not in the checkpoint"
    assert who(await tight.feed(ping("a", 10), ping("b", 10), ping("c", 10))) == (["a", "b"], ["c"])
    assert (tight.counts.over_quota, tight.counts.rejects) == (1, 1), "the silent refusal is told to nobody"


async def test_a_flood_of_made_up_ids_leaves_nothing_in_memory(tight: Tight) -> None:
    await tight.feed(ping("a", 0), ping("b", 0))
    for n in range(50):
        await tight.batch(ping(f"made-up-{n}", 0), ping("a", 10 + 10 * n))
    assert tight.engine.entities[A] == (2, 0)
    shard = tight.engine._table.shard(A)
    assert (len(shard.refused), len(shard.new)) == (1, 2)
    assert tight.counts.forecasts == 52


async def test_an_entity_in_quarantine_keeps_its_place(make_predictor: Make) -> None:
    class TightWorker(Worker):
        started = Tight.started
        most = 2

    rig = TightWorker(lambda: make_predictor(kind=FaultyFold))
    answers = await rig.feed(*steady("a", 3), ping("b", 0), CHECKPOINT, poison("a", 30), CHECKPOINT, ping("c", 0))
    assert [code_of(letter) for letter in letters(answers)] == ["step_failed", ENTITY_QUOTA_EXCEEDED]


def test_a_quota_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="max_stored_entities"):
        Settings(max_stored_entities=0)


# -- what the verifier says of it -------------------------------------------------------------------------------------


async def test_the_verifier_takes_a_refusal_for_what_it_says(tight: Tight) -> None:
    await tight.feed(ping("a", 0), ping("b", 0), ping("c", 0), ping("a", 10), CHECKPOINT)
    report = await sound_verdict(tight, store=tight.store, once=True)
    total = report.total
    assert (total.forecasts, total.dead_letters, total.quarantined, total.states) == (3, 1, 1, 2)


async def test_the_verifier_blames_the_refusal_of_an_entity_that_is_known(tight: Tight) -> None:
    await tight.feed(ping("a", 0), ping("b", 0), ping("c", 0), ping("c", 10))
    first = tight.out[2]
    late = tight.record(ping("a", 20))
    refused = first._replace(
        key=late.key,
        value=late.value,
        src=first.src._replace(offset=late.offset),
        headers=tuple(
            (name, str(late.offset).encode() if name.endswith("errors.offset") else value)
            for name, value in first.headers
        ),
    )
    assert wrong(await verdict(tight, [*tight.out, refused])) == {"unexpected": 1}
