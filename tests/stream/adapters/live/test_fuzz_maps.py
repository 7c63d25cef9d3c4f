"""Ten thousand inputs for each map: a ping, a reject or a skip, and never an exception."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import live_fuzz
import pytest

from stream.adapters.live import presets
from stream.adapters.live.mapping import MapReader, parse
from stream.adapters.live.mapping.units import UNITS
from stream.adapters.live.parsed import Reader

FIXTURES = Path(__file__).parent / "fixtures"
SEED = 35


def fixtures_of(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(FIXTURES.glob(f"{name}*.json"))]


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


@pytest.mark.parametrize("name", ["samsara", "motive", "flespi", "every unit"])
def test_no_input_makes_a_map_raise(name: str) -> None:
    read = every_unit() if name == "every unit" else presets.known(name).read
    fixtures = [EVERY] if name == "every unit" else fixtures_of(name)
    made = Counter(
        type(one).__name__ for raw in live_fuzz.mutated(fixtures, SEED) for one in live_fuzz.check(read, raw)
    )
    print(made)
    assert min(made["Ping"], made["Reject"]) > 1_000, "inputs of which nearly all are alike would show little"
