"""deploy/SIZING.md's arithmetic, done again from the figures that the page cites."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "deploy" / "SIZING.md").read_text()
PINGS_OF_A_WORKER, ENTITIES_OF_A_WORKER, ENTITIES_OF_A_PARTITION = 5_000, 100_000, 50_000
WORKER_BYTES, ENTITY_BYTES, STORED_KIB = 314 * 2**20, 12_014, 12.2
PING_AND_FORECAST_BYTES, PATCH_BYTES = 1_150, 561
WORKER_PARTS = (0.246, 0.362)  # of a core at 1,000 and 5,000 pings/s
BROKER_PART = 0.23  # of a core at 5,000 pings/s


def rows(first_heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    table = PAGE.split(f"| {first_heading} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def number(text: str) -> float:
    return float(re.sub(r"[^0-9.]", "", text))


def busy_workers(pings_per_s: float, entities: int) -> int:
    return max(math.ceil(pings_per_s / PINGS_OF_A_WORKER), math.ceil(entities / ENTITIES_OF_A_WORKER))


@pytest.mark.parametrize("row", rows("entities"), ids=lambda row: f"{row[0]} each {row[1]}")
def test_the_table_is_what_the_rules_give(row: list[str]) -> None:
    entities, rate = int(number(row[0])), number(row[0]) / number(row[1])
    busy = busy_workers(rate, entities)
    partitions = 2 ** math.ceil(math.log2(max(8, 4 * busy, entities / ENTITIES_OF_A_PARTITION)))
    expected = [
        f"{rate:,.0f}",
        f"{partitions:,}",
        f"{busy + 1:,}",
        f"{(WORKER_BYTES + ENTITY_BYTES * entities / busy) / 2**30:.2f}",
        f"{entities * STORED_KIB / 2**20:.2f}",
        f"{rate * PING_AND_FORECAST_BYTES / 1e6:.2f}",
        f"{rate * PATCH_BYTES / 1e6:.2f}",
    ]
    assert row[2:] == expected


def test_the_cost_of_a_million_is_what_the_figures_give() -> None:
    rate, busy = 1e6 / 30, busy_workers(1e6 / 30, 1_000_000)
    low, high = WORKER_PARTS
    cores = busy * (low + (high - low) * (rate / busy - 1_000) / 4_000)
    memory = (busy + 1) * (WORKER_BYTES + ENTITY_BYTES * 1e6 / busy) / 2**30
    stored = 2 * 4 / 3 * 1e6 * STORED_KIB / 2**20
    brokers, disk = 3 * BROKER_PART * rate / 5_000, 3 * rate * 86_400 * PING_AND_FORECAST_BYTES / 1e9
    workers, redis, kafka, total = rows("part")
    assert workers[1:3] == [f"{cores:.1f}", f"{memory:.1f}"]
    assert redis[1:3] == ["2", f"{stored:.1f}"]
    assert kafka[1:4] == [f"{brokers:.1f}", "", f"{disk:,.0f}"]
    assert total[1:4] == [f"{cores + 2 + brokers:.1f}", f"{memory + stored:.1f}", f"{disk:,.0f}"]
    assert total[4] == f"`{total[1]} C + {total[2]} G + {total[3]} D`"
