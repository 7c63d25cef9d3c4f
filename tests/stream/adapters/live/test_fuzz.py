"""Whatever comes, each reader of a live format makes pings, rejects and skips of it, and raises nothing."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import live_fuzz
import pytest
from live_rig import BUS, FIXTURES, GGA, LIVE, NOW_S, RMC, SKY, TPV, ais_lines, gtfs_feed, recorded, sentence, tagged

from stream.adapters.live import presets
from stream.adapters.live.formats import adsb, ais, gpsd, gtfs_realtime, nmea, owntracks, pathcast, traccar
from stream.adapters.live.mapping import MapReader, parse
from stream.adapters.live.mapping.units import UNITS
from stream.adapters.live.parsed import Reader

SEED = 35
Change = Callable[[random.Random, Sequence[bytes]], bytes]
BOTH, ALL = ("Ping", "Reject"), ("Ping", "Reject", "Skip")


class Fuzzed(NamedTuple):
    """A reader, whole messages of its format, and what comes of those whose values have been changed."""

    read: Reader
    examples: Sequence[bytes]
    kinds: Sequence[str] = BOTH
    changed: Change = live_fuzz.changed_values  # most changed bytes do not get past a checksum
    most_chars: int = 1_000  # of what is wrong: in JSON that may be far down


def every_unit() -> Reader:
    """A map that tries every unit of every field, one after the other, on values of any kind."""
    lines = ['name = "every-unit"', 'positions = ["a[].b[]", "c"]', "[fields]"]
    for field, units in UNITS.items():
        places = ", ".join(f'{{path = "{field}{at}", unit = "{unit}"}}' for at, unit in enumerate(units) if unit)
        lines.append(f'{field} = [{places or chr(34) + field + chr(34)}, "../{field}", "/x.{field}"]')
    return MapReader(parse("\n".join(lines).encode(), "every unit"))


EVERY = (
    b'{"x": {"entity_id": "v", "ts": 1796029450000, "lat": 47.5, "lon": 8.25, "speed_mps": "3.5"},'
    b' "c": {"lat3": 475000000, "lon2": "8250000", "ts2": 1796029450000, "heading_deg3": 1.5, "alt_m2": 1000},'
    b' "a": [{"entity_id": 7, "b": [{"ts1": "1796029450.5", "sats": "9", "valid": "true", "trip_id": 12}]}]}'
)


def ais_of_any_bits(rng: random.Random, _: Sequence[bytes]) -> bytes:
    letters = [chr(code) for code in (*range(48, 88), *range(96, 120))]
    head = rng.choice("1235BCHK") if rng.random() < 0.8 else rng.choice(letters)
    payload = head + "".join(rng.choices(letters, k=rng.choice((0, 1, 7, 15, 27, 27, 27, 51, 70))))
    count = rng.choice((1, 1, 1, 1, 2))
    part = f"{count},{rng.randint(1, count)},{rng.choice(['', '3'])}"
    return sentence(f"AIVDM,{part},A,{payload},{rng.randint(0, 5)}", "!")


def nmea_of_odd_cells(rng: random.Random, _: Sequence[bytes]) -> bytes:
    odd = ("", "0", "-1", "1e999", "NaN", "99999999", "A", "V", "N", "S", "é", " ", "24:00", "300299", "235960.99")
    cells = rng.choice((RMC, GGA)).split(",")
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        cells[rng.randrange(1, len(cells))] = rng.choice(odd)
    return sentence(",".join(cells[: rng.choice((99, 99, 99, rng.randrange(1, 14)))]))


def nmea_in_tag_blocks(rng: random.Random, examples: Sequence[bytes]) -> bytes:
    line = nmea_of_odd_cells(rng, examples)
    tags = rng.choice((b"s:van-7", b"s:van-7", b"c:1,s:" + b"x" * rng.choice((3, 129)), b"s:\xff", b"s:", b""))
    return tagged(line, tags) if rng.random() < 0.9 else line


def gtfs_of_odd_values(rng: random.Random, _: Sequence[bytes]) -> bytes:
    numbers = (0.0, -0.0, 90.0, 91.0, -180.0, 181.0, 360.0, 361.0, -1.0, 1e30, float("nan"), float("inf"), 1e-40)
    texts = ("", "7", " ", "x" * 129, "x" * 100_000, "\x00", "\u2028", "é")
    times = (0, 1, 1000, NOW_S, NOW_S * 1000, 2**33, 2**63, 2**64 - 1)
    given = {
        **BUS,
        "at": (rng.choice((*numbers, 30.0, 30.0)), rng.choice((*numbers, -97.0, -97.0))),
        **{name: rng.choice(numbers) for name in ("speed", "bearing") if rng.random() < 0.5},
        **{name: rng.choice(texts) for name in ("id", "label", "trip_id", "route_id") if rng.random() < 0.2},
        "ts": rng.choice((*times, NOW_S, NOW_S)),
    }
    return bytes(gtfs_feed(given, header_s=rng.choice((NOW_S, *times))).SerializeToString())


AIRCRAFT = (LIVE / "recorded" / "aircraft.json").read_bytes()
AIRCRAFT_ALONE = [
    json.dumps({"now": NOW_S - 0.1, "aircraft": [one]}).encode() for one in json.loads(AIRCRAFT)["aircraft"]
]
SHIPS = [line for kind in (1, 3, 5, 18, 19, 24, 27, 4, 9, 21) for line in ais_lines(type=kind, ship_type=70)]
TAGGED = [tagged(line, b"c:%d" % NOW_S) for line in SHIPS]
FEEDS = [gtfs_feed(BUS, {"id": "8"}, {"trip_id": "t", "at": (1.0, 2.0)}), gtfs_feed()]
REPORTS = [json.dumps(one).encode() for one in (TPV, TPV, SKY)]
OURS = [
    json.dumps({"entity_id": "7", "ts": NOW_S * 1000, "lat": 1.5, "lon": 2.5, "attrs": {"a": 1}}).encode(),
    json.dumps([{"entity_id": 7, "ts": NOW_S, "lat": 1, "lon": 2}, {"entity_id": "8", "sats": 7}]).encode(),
]
PHONES, TRACKERS = ([raw for _, raw in recorded(f"{name}.ndjson")] for name in ("owntracks", "traccar"))


def of_preset(name: str) -> Fuzzed:
    return Fuzzed(
        presets.find_preset(name).read, [path.read_bytes() for path in sorted(FIXTURES.glob(f"{name}*.json"))]
    )


READERS: dict[str, Callable[[], Fuzzed]] = {
    "adsb": lambda: Fuzzed(adsb.read, [AIRCRAFT, *AIRCRAFT_ALONE]),
    "ais": lambda: Fuzzed(ais.Receiver().read, [*SHIPS, *TAGGED], ALL, ais_of_any_bits, 300),
    "gpsd": lambda: Fuzzed(gpsd.Receiver("boat").read, REPORTS, ALL),
    "gtfs-rt": lambda: Fuzzed(
        gtfs_realtime.read, [one.SerializeToString() for one in FEEDS], BOTH, gtfs_of_odd_values, 300
    ),
    "nmea": lambda: Fuzzed(
        nmea.Receiver("van-7").read, [*map(sentence, (RMC, GGA, "GPGSV,1,1,00"))], ALL, nmea_of_odd_cells, 300
    ),
    "nmea of many": lambda: Fuzzed(
        lambda raw, came_ms: [nmea.Receivers({}).hear(raw, came_ms).parsed],
        [tagged(sentence(RMC), b"s:van-7"), *map(sentence, (RMC, GGA)), *SHIPS[:2]],
        ALL,
        nmea_in_tag_blocks,
        300,
    ),
    "pathcast": lambda: Fuzzed(pathcast.read, OURS),
    "owntracks": lambda: Fuzzed(partial(owntracks.read, device="jo/pixel"), PHONES, ALL),
    "owntracks without a topic": lambda: Fuzzed(owntracks.read, PHONES[:3]),
    "traccar": lambda: Fuzzed(traccar.read, TRACKERS, ALL),
    **{name: partial(of_preset, name) for name in ("flespi", "motive", "samsara")},
    "a map with every unit": lambda: Fuzzed(every_unit(), [EVERY]),
}


@pytest.mark.parametrize("change", ["bytes", "values"])
@pytest.mark.parametrize("name", READERS)
def test_no_message_makes_a_reader_raise(name: str, change: str, fuzzed_inputs: int) -> None:
    print(f"seed {SEED}")
    rng, fuzzed, counts = random.Random(SEED), READERS[name](), Counter[str]()
    changed, kinds = (live_fuzz.changed_bytes, ("Reject",)) if change == "bytes" else (fuzzed.changed, fuzzed.kinds)
    made = (changed(rng, fuzzed.examples) for _ in range(fuzzed_inputs))
    for raw in (*live_fuzz.NO_MESSAGES, *fuzzed.examples, *made):
        counts += live_fuzz.check(fuzzed.read(raw, live_fuzz.CAME_MS), fuzzed.most_chars)
    print(counts)
    assert min(counts[kind] for kind in kinds) > fuzzed_inputs / 20, "inputs of which most are alike would show little"
