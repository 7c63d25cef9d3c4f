"""`pathcast dlq replay --map`: messages of another system are read once more after a fix of their map."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bus_feed
import dlq_rig
import msgspec
import pytest

from stream.adapters.live import presets
from stream.commands.dlq import requeue
from stream.ingest.publishing.sink import Sink
from stream.wire import ERROR_HEADER_PREFIX, Ping, Record, Topics

PARTITIONS = 3
CAME_MS = 1_700_000_000_000
# As it was: it looked for the time where this fleet has none. And as it is after the fix.
BROKEN = """
name = "fleet"
positions = ["vehicles[]"]
[fields]
entity_id = "id"
ts = {path = "seen", unit = "s"}
lat = "lat"
lon = "lon"
"""
FIXED = BROKEN.replace('"seen"', '"time"')


def vehicle(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "time": CAME_MS // 1000, "lat": 30.0, "lon": -97.0, **more}


MESSAGES = (
    [vehicle("a"), vehicle("b", lat=91.0)],  # one is good after the fix
    [vehicle("c")],
    [vehicle("d", time="soon")],  # and this one never
)


class Scene:
    """A broker with the dead letters of a fleet whose map was broken, and of another one."""

    def __init__(self, kafka: str, prefix: str, folder: Path) -> None:
        self.kafka, self.topics = kafka, Topics.of(prefix)
        self.map = folder / "fleet.toml"
        self.map.write_text(BROKEN)
        bus_feed.create_topics(kafka, self.topics, partitions=PARTITIONS)

    def take(self, *messages: Sequence[dict[str, Any]], adapter: str = "fleet") -> None:
        """As `pathcast ingest http` takes them with the map as it is now."""
        read = presets.find_preset(str(self.map)).read

        async def taken() -> None:
            async with Sink(self.kafka, self.topics, adapter) as sink:
                for message in messages:
                    raw = json.dumps({"vehicles": message}).encode()
                    await sink.take(read(raw, CAME_MS), raw, f"http:/webhook/{adapter}")

        asyncio.run(taken())

    def run(self, *arguments: object, stdin: str = "") -> Any:
        return dlq_rig.run(self.kafka, self.topics, *arguments, stdin=stdin)

    def replayed(self, *arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = dlq_rig.told(self.kafka, self.topics, "replay", "--map", self.map, "--yes", *arguments)
        return found

    def pings(self) -> list[Record]:
        return list(bus_feed.read(self.kafka, self.topics.pings))

    def letters(self) -> Counter[tuple[str, str]]:
        """Dead letters by adapter and code."""
        found = [dict(record.headers) for record in bus_feed.read(self.kafka, self.topics.dead_letters)]
        names = (ERROR_HEADER_PREFIX + "adapter", ERROR_HEADER_PREFIX + "code")
        return Counter((one[names[0]].decode(), one[names[1]].decode()) for one in found)  # type: ignore[union-attr]


@pytest.fixture
def scene(kafka: str, topic_prefix: str, tmp_path: Path) -> Scene:
    made = Scene(kafka, topic_prefix, tmp_path)
    made.take(*MESSAGES)
    return made


def test_messages_become_pings_once_their_map_is_right_and_what_is_still_bad_a_new_letter(scene: Scene) -> None:
    assert scene.pings() == []
    before = scene.letters()
    assert before.total() == len(MESSAGES)
    scene.map.write_text(FIXED)
    planned = scene.replayed("--dry-run")
    assert (planned["messages"], planned["pings"], planned["dry_run"]) == (3, 2, True)
    assert scene.pings() == []
    done = scene.replayed()
    assert (done["messages"], done["pings"], done["replayed_before"]) == (3, 2, 0)
    assert sum(done["rejects"].values()) == 2
    found = scene.pings()
    assert sorted(record.key for record in found) == [b"a", b"c"]
    pings = [msgspec.json.decode(record.value or b"", type=Ping) for record in found]
    assert {(ping.ts, ping.lat) for ping in pings} == {(CAME_MS, 30.0)}
    assert scene.letters() - before == Counter({("fleet", code): n for code, n in done["rejects"].items()})

    again = scene.replayed()
    assert (again["messages"], again["replayed_before"]) == (2, 3), "the two new letters alone"
    assert sorted(record.key for record in scene.pings()) == [b"a", b"a", b"c"], "a worker drops the second"


def test_a_ping_goes_where_the_workers_look_for_its_entity(scene: Scene) -> None:
    """One owner has all pings of an entity, however they came."""
    scene.map.write_text(FIXED)
    scene.replayed()
    scene.take([vehicle("a", time=CAME_MS // 1000 + 60), vehicle("c", time=CAME_MS // 1000 + 60)])
    where: dict[bytes | None, set[int]] = {}
    for record in scene.pings():
        where.setdefault(record.key, set()).add(record.partition)
    assert {key: len(numbers) for key, numbers in where.items()} == {b"a": 1, b"c": 1}


def test_only_messages_of_that_map_and_code_are_read_and_records_never(scene: Scene) -> None:
    scene.take([vehicle("z")], adapter="another")
    scene.map.write_text(FIXED)
    code = next(code for _, code in scene.letters())
    assert scene.replayed("--code", "lat_out_of_range")["messages"] == 0
    assert scene.replayed("--code", code)["messages"] == 3
    assert b"z" not in {record.key for record in scene.pings()}
    plain = scene.run("replay", "--yes", "--json")
    assert json.loads(plain.stdout)["replayed"] == 0
    assert json.loads(plain.stdout)["of_adapters"]["another"] == 1


def test_it_asks_first_and_says_what_would_come_of_it(scene: Scene) -> None:
    scene.map.write_text(FIXED)
    refused = scene.run("replay", "--map", scene.map, stdin="n\n")
    assert refused.exit_code == 1
    assert "3 messages of fleet would hold 2 pings" in refused.output
    assert scene.pings() == []
    told = scene.run("replay", "--map", scene.map, stdin="y\n")
    assert "3 messages of fleet held 2 pings" in told.output
    listed = json.loads(scene.run("list", "--json").stdout)["newest"]
    assert Counter(letter["replayed"] for letter in listed) == {True: 3, False: 2}


def test_a_map_that_is_none_is_bad_usage(scene: Scene) -> None:
    told = scene.run("replay", "--map", "nonsense", "--yes")
    assert told.exit_code == 2
    assert "is neither a preset" in told.output


@pytest.mark.parametrize("die_after", [1, 2, 3, 4, 5])
def test_a_replay_that_dies_anywhere_doubles_nothing_and_the_next_one_completes_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, die_after: int
) -> None:
    scene.map.write_text(FIXED)
    with monkeypatch.context() as patched:
        patched.setattr(requeue, "AIOKafkaProducer", dlq_rig.mortal(die_after))
        with pytest.raises(dlq_rig.Killed):
            scene.replayed()
    assert scene.replayed()["pings"] == 2
    there = asyncio.run(dlq_rig.committed(scene.kafka, scene.topics.pings))
    assert sorted(ping.key or b"" for ping in there) == [b"a", b"c"]
