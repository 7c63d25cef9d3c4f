"""Which weights answer which ping: worked by hand, and whatever announcer, pings and workers do in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from atlas_world import TOPIC, World, name, run_at_random
from msgspec.structs import replace

from stream.versions.ledger import certain_below, first_offsets, is_in_time
from stream.versions.weights import NEVER, OWN, AnnouncedRule, PartitionRules, WeightsLedger, end_canary
from stream.wire import WeightsRecord, dumps, loads_weights

PLACES = np.array([0, 1 << 30, 1 << 31, 3 << 30, (1 << 32) - 1], np.uint32)


def record(serial: int, first: Mapping[int, int], role: str = "all", **more: Any) -> WeightsRecord:
    given: dict[str, Any] = {"parts": 10_000, "ramp": {}, "state": "serving", "version": name(serial), "reason": ""}
    given |= more
    return WeightsRecord(
        kind="weights",
        serial=serial,
        name="small",
        role=role,
        first=dict(first),
        topic=TOPIC,
        issued_ts=0,
        **given,
    )


def ledger(*records: WeightsRecord) -> WeightsLedger:
    found = WeightsLedger(TOPIC)
    for one in records:
        found.add(one.key, dumps(one))
    return found


def said(found: WeightsLedger, number: int, offset: int) -> list[str | None]:
    rules = found.rules(number)
    at = rules.at(np.full(len(PLACES), offset), PLACES).tolist()
    return [None if one == OWN else rules.rules[one].version for one in at]


def test_a_record_has_the_fields_that_the_topic_promises() -> None:
    one = record(7, {0: 12}, "canary", parts=500, state="announced", until={0: 90}, reason="nearer")
    assert one.key == b"weights:0000000007"
    assert dumps(one) == (
        b'{"kind":"weights","serial":7,"version":"0000000000000007","name":"small","role":"canary","state":"announced",'
        b'"parts":500,"from":{"0":12},"ramp":{},"until":{"0":90},"topic":"pathcast.pings.v1","reason":"nearer",'
        b'"issued_ts":0}'
    )
    assert loads_weights(dumps(one)) == one


def test_entities_follow_by_their_places_over_the_ramp() -> None:
    found = ledger(record(1, {0: 100}, ramp={0: 40}))
    by_offset = {offset: said(found, 0, offset).count(name(1)) for offset in (99, 100, 109, 110, 120, 130, 139, 140)}
    assert by_offset == {99: 0, 100: 1, 109: 1, 110: 2, 120: 3, 130: 4, 139: 5, 140: 5}
    assert said(found, 1, 10**9) == [None] * 5, "no announcement names this partition"


def test_the_last_announcement_that_applies_answers() -> None:
    found = ledger(
        record(1, {0: 10}),
        record(2, {0: 20}, "canary", parts=10_000, until={0: 30}),
        record(3, {0: 25}),
    )
    assert [said(found, 0, offset)[0] for offset in (9, 10, 20, 24, 25, 29, 30)] == [
        None, name(1), name(2), name(2), name(3), name(3), name(3),
    ]  # fmt: skip


def test_a_canary_has_its_part_and_others_the_next_time() -> None:
    places = np.random.default_rng(0).integers(0, 2**32, 20_000).astype(np.uint32)
    chosen = [
        AnnouncedRule(serial, "", 0, NEVER, NEVER, 500).holds(np.zeros(20_000, np.int64), places) for serial in (1, 2)
    ]
    assert [bool(800 < one.sum() < 1200) for one in chosen] == [True, True]
    assert (chosen[0] & chosen[1]).sum() < 120
    everybody = AnnouncedRule(9, "", 0, NEVER, NEVER, 10_000).holds(np.zeros(20_000, np.int64), places)
    assert everybody.all()


def test_what_is_announced_answers_nothing_and_leaves_open_what_it_may() -> None:
    found = ledger(record(1, {0: 5}), record(2, {0: 20}, state="announced"))
    assert (said(found, 0, 30)[0], found.first_undecided(0), found.first_undecided(1)) == (name(1), 20, None)
    canary = record(3, {0: 10}, "canary", state="serving")
    found = ledger(record(1, {0: 5}), end_canary(canary, {0: 50}))
    assert (said(found, 0, 60)[0], found.first_undecided(0)) == (name(3), 50), "it serves until its end is certain"


@pytest.mark.parametrize("first", [2**63 - 1, 2**63 - 2, 2**63 - 3, 2**62])
def test_a_ramp_at_an_offset_that_no_log_reaches_changes_nothing(first: int) -> None:
    """It ended before it began, by arithmetic, and each worker raised at each batch until the record was gone."""
    found = ledger(record(1, {0: 10}), record(2, {0: first}, ramp={0: 2**31 - 1}), record(3, {0: 20}, ramp={0: 1}))
    assert [said(found, 0, offset)[0] for offset in (9, 10, 20, 2**62 - 1)] == [None, name(1), name(3), name(3)]
    assert found.rules(0).among(30, NEVER - 1)


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"weights:0000000002", b"{}"),
        (b"weights:0000000002", DEEP),
        (b"weights:0000000002", dumps(record(2, {0: 1})).replace(b'"0":1', b'"0":NaN')),
        (b"weights:0000000002", dumps(record(2, {0: 1})).replace(b'"0":1', b'"0":1e400')),
        (b"weights:0000000002", dumps(record(2, {0: 1})).replace(b'"0":1', b'"0":"x"')),
        (b"weights:0000000002", dumps(record(2, {0: 1})).replace(b'"0":1', b'"0":1,"%s":1' % (b"9" * 5_000))),
        (b"weights:0000000002", dumps(record(2, {0: 1}, ramp=dict.fromkeys(range(5_000), 1)))),
        (b"weights:0000000002", dumps(record(2, dict.fromkeys(range(5_000), 1)))),
        (b"weights:0000000002", dumps(record(2, {0: 1}, reason="x" * 500_000))),
        (b"weights:0000000002", dumps(record(2, {0: 1}, "shadow"))),  # which 0.2.0 announced
        (b"weights:0000000002", dumps(record(2, {0: 1}, version="../../../etc/pw"))),
        (b"weights:0000000002", dumps(record(2, {0: 1}, version="\x1b[2J" + "a" * 12))),
        (b"weights:0000000002", b"\xff"),
        (b"weights:0000000002", dumps(record(3, {0: 1}))),
        (b"weights:0000000002", dumps(replace(record(2, {0: 1}), topic="other"))),
        (b"weights:0000000002", dumps(record(2, {0: 1})).replace(b'"0":1', b'"0":-1')),
        (b"weights:2", dumps(record(2, {0: 1}))),
        (b"weights:0000000002", None),
    ],
)
def test_what_is_no_record_of_its_number_withdraws_it(key: bytes, value: bytes | None) -> None:
    found = ledger(record(1, {0: 0}), record(2, {0: 5}))
    found.add(key, value)
    assert said(found, 0, 9)[0] == name(1)


@pytest.mark.parametrize(
    "key",
    [
        *(None, b"", b"atlas:0000000000000002", b"weights:", b"weights:x", b"weights:-2", b"\xff"),
        *(b"weights:" + b"9" * 5_000, b"weights:\xd9\xa2", b"weights:\x1b[2J/../2", b"weights:0" + b"0" * 9 + b"2"),
    ],
)
def test_other_records_change_nothing(key: bytes | None) -> None:
    found = ledger(record(1, {0: 0}), record(2, {0: 5}))
    found.add(key, None)
    assert said(found, 0, 9)[0] == name(2)


def random_rules(rng: np.random.Generator) -> PartitionRules:
    found = []
    for serial in range(1, int(rng.integers(1, 6))):
        first, wide = int(rng.integers(0, 60)), int(rng.integers(0, 30))
        is_all = rng.random() < 0.6
        until = NEVER if is_all or rng.random() < 0.3 else first + wide
        found.append(
            AnnouncedRule(
                serial, str(serial), first, first + wide if is_all else NEVER, until, int(rng.integers(0, 10_001))
            )
        )
    return PartitionRules(tuple(found))


def test_those_among_which_the_answer_is_are_all_that_answer_anybody() -> None:
    """And no fewer, but for canaries without entities and ramps that are steeper than the fleet is large."""
    rng, seen, more = np.random.default_rng(1), 0, 0
    places = np.arange(0, 2**32, 2**23).astype(np.uint32)
    for _ in range(400):
        rules = random_rules(rng)
        first = int(rng.integers(0, 80))
        last = first + int(rng.integers(0, 20))
        answers = {int(one) for at in range(first, last + 1) for one in rules.at(np.full(len(places), at), places)}
        among = rules.among(first, last)
        assert answers <= set(among)
        seen, more = seen + len(answers), more + len(among)
    assert more < 1.2 * seen


def test_what_answers_no_ping_that_is_left_is_superseded() -> None:
    log = [
        record(1, {0: 5, 1: 5}),
        record(2, {0: 10, 1: 20}, ramp={0: 30}),
        record(3, {0: 15}, "canary", until={0: 50}),
    ]
    found = ledger(*log)
    assert found.list_superseded({0: 39, 1: 20}) == [], "an entity may still be asked for by 1"
    assert found.list_superseded({0: 40, 1: 20}) == [log[0]]
    assert found.list_superseded({0: 50, 1: 20}) == [log[0], log[2]]
    assert ledger(*log, record(4, {0: 60, 1: 60})).list_superseded({0: 60, 1: 60}) == log


# -- whatever comes in between ----------------------------------------------------------------------------------------


@dataclass
class WeightsWorld(World):
    """The same with weights: those of all, with ramps, and canaries that end. An answer is that of five entities."""

    seed: int = 0

    def announcer(self) -> Iterator[None]:
        rng, canary = np.random.default_rng(self.seed), None
        while True:
            first = first_offsets(dict(enumerate(self.ends)), {})
            if canary is not None and rng.random() < 0.7:
                made, former, canary = end_canary(canary, first), canary, None
            else:
                self.versions += 1
                role = str(rng.choice(["all", "canary"]))
                ramp = {number: int(rng.integers(0, 20)) if role == "all" else 0 for number in first}
                made, former = record(self.versions, first, role, parts=5_000, ramp=ramp, state="announced"), None
            yield
            self.models.append((made.key, dumps(made)))
            yield
            in_time = not self.confirms or is_in_time(first, dict(enumerate(self.ends)))
            yield
            served = replace(made, state="serving") if in_time else former
            self.models.append((made.key, None if served is None else dumps(served)))
            if made.role == "canary" and served is not None and served.until is None:
                canary = served
            yield

    def ledger(self) -> WeightsLedger:
        return WeightsLedger(TOPIC)

    def answer(self, known: WeightsLedger, number: int, offset: int) -> str:
        return str(said(known, number, offset))


def shows(**broken: Any) -> bool:
    """Whether one of these worlds, with this broken, answers otherwise than its log says."""
    return any(not run_at_random(WeightsWorld(seed=seed, **broken), seed).agrees() for seed in range(200))


def test_whoever_follows_the_rule_answers_as_the_whole_log_says_and_each_way_to_break_it_shows() -> None:
    assert not shows()
    assert shows(sure=lambda end: 10**9), "a worker that looks once"
    assert shows(sure=lambda end: certain_below(end) + 8), "one that trusts a look for too long"
    assert shows(confirms=False), "an announcer without its second step"
    assert shows(heeds=False), "a worker that does not wait for what is announced"


def test_the_worlds_are_worth_looking_at() -> None:
    worlds = [run_at_random(WeightsWorld(seed=seed), seed) for seed in range(60)]
    finals = [[loads_weights(value) for _, value in world.models if value is not None] for world in worlds]
    assert sum(one.until is not None and one.state == "serving" for log in finals for one in log) > 20, (
        "canaries that end"
    )
    assert sum(len(set(world.answers)) for world in worlds) > 2_000
    assert len({one for world in worlds for given in world.answers.values() for one in given}) > 50
