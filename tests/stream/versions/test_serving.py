"""Which version a worker asks, what it waits for and for how long, and which files it has loaded."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from atlas_rig import version_of
from atlas_world import TOPIC, Topic, World
from engine_rig import steady

from model.api import Atlas
from stream.versions import serving
from stream.versions.atlases import Atlases
from stream.versions.ledger import KNOWN_AHEAD, Ledger
from stream.versions.loading import Loader
from stream.versions.serving import Versions
from stream.worker.versions import atlases_of

HOLD_S = 0.15  # where a wait is to pass
LONGER_S = 1.0  # and where who asks again within twice of it must not wait anew, on a machine that stalls
NEVER_S = 600.0  # where no wait may pass: whatever is waited for comes first
FILES = [version_of(steady("bus-1", count)) for count in (5, 40, 60)]
V0, V1, V2 = (Atlas.of(raw).version for raw in FILES)


class Rig:
    def __init__(self, folder: Path, hold_s: float = NEVER_S, **more: object) -> None:
        self.topic, self.folder, self.news = Topic(), folder, asyncio.Event()
        self.atlases = atlases_of(self.topic, folder)  # type: ignore[arg-type]
        self.versions = Versions(self.topic, self.atlases, None, hold_s=hold_s, **more)  # type: ignore[arg-type]
        self.versions.listen(self.news.set)

    def put(self, *versions: str) -> None:
        for raw in FILES:
            if (version := Atlas.of(raw).version) in versions:
                (self.folder / f"{version}.atlas").write_bytes(raw)

    async def asked(self, first: int, last: int, number: int = 0) -> list[tuple[str | None, bool]] | None:
        """What the pings of these offsets ask; None if they must wait."""
        chosen, weights, held = await self.versions.choose({number: (first, last)})
        assert (chosen is not None, weights) == (True, None)
        if held:
            assert held == {number}
            return None
        which, late = chosen.of(number, np.arange(first, last + 1))
        names = [None if one < 0 else chosen.atlases[one].version for one in which.tolist()]
        return list(zip(names, late.tolist(), strict=True))

    async def until_asked(self, first: int, last: int, number: int = 0) -> list[tuple[str | None, bool]]:
        """The same, asked again at each piece of news, as delivery does. There may be news without end."""
        async with asyncio.timeout(60):
            while (found := await self.asked(first, last, number)) is None:
                await self.more_news()
        return found

    async def more_news(self) -> None:
        self.news.clear()
        async with asyncio.timeout(60):
            await self.news.wait()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_a_version_is_loaded_when_it_is_needed_and_asked_from_its_offset_on(rig: Rig) -> None:
    rig.put(V0, V1)
    rig.topic.says(V0, "serving", p0=3)
    rig.topic.says(V1, "serving", p0=6, p1=50)
    assert await rig.until_asked(1, 7) == [(None, False)] * 2 + [(V0, False)] * 3 + [(V1, False)] * 2
    assert rig.versions.in_use == {0: V1}
    assert await rig.asked(5, 8, number=1) == [(None, False)] * 4, "another partition has other offsets"


async def test_it_looks_only_when_a_ping_lies_beyond_the_last_look(tmp_path: Path) -> None:
    rig = Rig(tmp_path, log_end=lambda number: 100)
    assert await rig.asked(0, 9) == [(None, False)] * 10
    assert await rig.asked(10, 99 + KNOWN_AHEAD) is not None
    assert rig.topic.looks == 1
    await rig.asked(99 + KNOWN_AHEAD, 100 + KNOWN_AHEAD)
    assert rig.topic.looks == 2


async def test_what_is_announced_is_waited_for_and_only_where_it_may_answer(rig: Rig) -> None:
    rig.put(V0, V1)
    rig.topic.says(V0, "serving", p0=0, p1=0)
    rig.topic.says(V1, "announced", p0=20, p1=90)
    running = asyncio.create_task(rig.versions.run())
    assert await rig.until_asked(10, 19) == [(V0, False)] * 10
    assert await rig.asked(18, 21) is None
    assert await rig.asked(18, 21, number=1) == [(V0, False)] * 4
    rig.topic.says(V1, "serving", p0=20, p1=90)
    assert await rig.until_asked(18, 21) == [(V0, False)] * 2 + [(V1, False)] * 2, "its looks found it"
    running.cancel()


async def test_after_a_bounded_time_it_goes_on_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(tmp_path, LONGER_S)
    rig.put(V0)
    rig.topic.says(V0, "serving", p0=0)
    rig.topic.says(V1, "serving", p0=10)
    rig.topic.says(V2, "announced", p0=30)
    await rig.asked(0, 7)
    while set(rig.atlases.loader.loaded) != {V0}:  # or it were late itself, where loading takes longer than the wait
        await rig.more_news()
    assert await rig.until_asked(8, 11) == [(V0, False)] * 2 + [(V0, True)] * 2, "the version before, and late"
    assert await rig.asked(12, 13) == [(V0, True)] * 2, "once is enough"
    assert len([one for one in caplog.messages if f"goes on without version {V1}" in one]) == 1
    assert len([one for one in caplog.messages if f"version {V1} of the atlas is refused" in one]) == 1
    assert await rig.until_asked(29, 31) == [(V0, True)] * 3
    rig.put(V1)
    while await rig.asked(32, 33) != [(V1, True)] * 2:
        await rig.more_news()
    rig.topic.log.append((f"atlas:{V2}".encode(), None))
    await rig.topic.look()
    assert await rig.asked(34, 35) == [(V1, False)] * 2, "nothing is open any more"


async def test_pings_beyond_the_last_look_wait_for_a_topic_that_is_away(tmp_path: Path) -> None:
    rig = Rig(tmp_path, LONGER_S)
    assert await rig.asked(0, 9) == [(None, False)] * 10
    rig.topic.away = True
    certain = 9 + KNOWN_AHEAD
    assert await rig.asked(10, certain) == [(None, False)] * (certain - 9), "these are certain"
    assert await rig.asked(certain, certain + 1) is None
    assert await rig.until_asked(certain, certain + 1) == [(None, False), (None, True)]
    looks = rig.topic.looks
    assert await rig.asked(100, 101) == [(None, True)] * 2
    assert rig.topic.looks == looks, "no batch waits for another look that fails"
    rig.topic.away = False
    running = asyncio.create_task(rig.versions.run())
    while await rig.asked(102, 103) != [(None, False)] * 2:
        await rig.more_news()
    running.cancel()


async def test_what_was_waited_for_once_is_waited_for_again_in_the_next_outage(tmp_path: Path) -> None:
    rig = Rig(tmp_path, HOLD_S)
    await rig.asked(0, 9)
    rig.topic.away = True
    assert await rig.until_asked(100, 100) == [(None, True)]
    rig.topic.away = False
    assert await rig.versions._look(), "while the partition has no pings"
    rig.topic.away = True
    assert await rig.asked(101, 101) is None


async def test_a_partition_without_pings_does_not_wait_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path, HOLD_S)
    rig.topic.says(V1, "serving", p0=0)
    assert await rig.until_asked(0, 0) == [(None, True)]
    await asyncio.sleep(3 * HOLD_S)
    assert await rig.asked(1, 1) is None


async def test_a_topic_that_begins_anew_is_not_certain_by_what_was_known_of_another(rig: Rig) -> None:
    assert await rig.asked(1000, 1009) == [(None, False)] * 10
    rig.put(V0)
    rig.topic.says(V0, "serving", p0=0)
    assert await rig.until_asked(0, 3) == [(V0, False)] * 4


async def test_what_was_chosen_is_good_for_later_pings_until_something_is_new(tmp_path: Path) -> None:
    rig = Rig(tmp_path, log_end=lambda number: 1000)
    rig.put(V0, V1)
    rig.topic.says(V0, "serving", p0=0, p1=0)
    for number in (0, 1):
        await rig.until_asked(0, 1, number)
    first, *_ = await rig.versions.choose({0: (2, 3), 1: (2, 9)})
    assert (await rig.versions.choose({1: (10, 20)}))[0] is first
    assert (await rig.versions.choose({2: (0, 5)}))[0] is not first, "another partition"
    rig.topic.says(V1, "serving", p0=40, p1=60)
    await rig.topic.look()
    assert (await rig.versions.choose({0: (21, 22)}))[0] is not first
    assert await rig.until_asked(38, 41) == [(V0, False)] * 2 + [(V1, False)] * 2
    assert await rig.asked(38, 41, number=1) == [(V0, False)] * 4
    assert await rig.asked(1000 + KNOWN_AHEAD, 1000 + KNOWN_AHEAD) == [(V1, False)]


@pytest.mark.parametrize("raw", [b"", b"PCAT", FILES[1][:-1], FILES[0], bytes([FILES[1][0] ^ 1]) + FILES[1][1:]])
async def test_a_file_that_is_not_that_version_is_never_asked(tmp_path: Path, raw: bytes) -> None:
    rig = Rig(tmp_path, HOLD_S)
    rig.topic.says(V1, "serving", p0=0)
    (rig.folder / f"{V1}.atlas").write_bytes(raw)
    assert await rig.until_asked(0, 0) == [(None, True)]


async def test_only_what_is_needed_is_loaded(rig: Rig) -> None:
    rig.put(V0, V1, V2)
    rig.topic.says(V0, "serving", p0=0)
    rig.topic.says(V1, "serving", p0=10)
    assert await rig.until_asked(0, 2) == [(V0, False)] * 3
    while set(rig.atlases.loader.loaded) != {V0, V1}:  # the next one, before it is needed
        await rig.more_news()
    rig.topic.says(V2, "serving", p0=40)
    assert await rig.until_asked(50, 51) == [(V2, False)] * 2
    assert set(rig.atlases.loader.loaded) == {V1, V2}
    for version in (V0, V1):
        rig.topic.log.append((f"atlas:{version}".encode(), None))
    assert await rig.asked(80, 81) == [(V2, False)] * 2
    assert set(rig.atlases.loader.loaded) == {V2}


# -- whatever comes in between ----------------------------------------------------------------------------------------


class AllThere(Loader[Atlas]):
    """Every version's file is there, and loaded at once."""

    def need(self, versions: set[str]) -> bool:
        self.loaded = {version: replace(EMPTY, version=version) for version in versions}
        return True


EMPTY = Atlas.of(version_of([]))


async def wrong(seed: int) -> int:
    """How many pings are answered otherwise than the whole log says, in a random world."""
    rng, world, topic = np.random.default_rng(seed), World(), Topic()
    topic.log = world.models

    def something() -> None:
        for _ in range(rng.integers(0, 4)):
            world.act(str(rng.choice(["ping", "announce"], p=[0.5, 0.5])), int(rng.integers(0, 14)))

    topic.before = topic.after = something
    atlases = Atlases(topic, AllThere("atlas", Atlas.load))  # type: ignore[arg-type]
    versions = Versions(topic, atlases, None, hold_s=1e9, log_end=lambda number: seen[number])  # type: ignore[arg-type]
    at, seen = [0, 0], [0, 0]
    answers: dict[tuple[int, int], str | None] = {}
    for _ in range(60):
        something()
        seen = list(world.ends)
        spans = {n: (at[n], min(at[n] + 5, world.ends[n]) - 1) for n in (0, 1) if at[n] < world.ends[n]}
        chosen, _, held = await versions.choose(spans)
        assert chosen is not None
        for number, (first, last) in spans.items():
            if number not in held:
                which, late = chosen.of(number, np.arange(first, last + 1))
                assert not late.any()
                for offset, one in zip(range(first, last + 1), which.tolist(), strict=True):
                    answers[number, offset] = None if one < 0 else chosen.atlases[one].version
                at[number] = last + 1
    final = Ledger(TOPIC)
    for _ in range(4):
        world.act("announce", 0)
    for one in world.models:
        final.add(*one)
    assert len(answers) > 20
    return sum(final.version_at(*place) != version for place, version in answers.items())


async def is_wrong() -> bool:
    """Whether there is such a ping in one of these worlds."""
    for seed in range(150):
        if await wrong(seed):
            return True
    return False


async def test_whatever_comes_in_between_each_ping_is_answered_as_the_whole_log_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not await is_wrong()
    monkeypatch.setattr(serving, "certain_below", lambda end: end + 16)
    assert await is_wrong(), "a look that is believed for too long"
    monkeypatch.undo()
    monkeypatch.setattr(Ledger, "announced", [])
    assert await is_wrong(), "what is announced is not waited for"
