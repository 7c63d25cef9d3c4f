"""What reports/bench.md gets: date, machine, command and tables, newest first, and nothing by itself."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stream.bench.harness.report import (
    HEADING,
    Report,
    Table,
    dumps,
    record,
    render,
    shown,
)


def report(bench: str = "worker", when: str = "2026-11-25 17:00 UTC") -> Report:
    table = Table("rates", ("what", "pings/s", "±"), [("worker | bare", 25_123.7, "3 %"), ("step", 52_000, "1 %")])
    return Report(
        bench,
        [table],
        {"ratio": 0.123456789},
        ["a note"],
        "Kafka",
        "pathcast dev bench worker",
        when,
        "a machine",
        "py 3",
    )


def test_an_entry_has_its_date_machine_versions_and_command() -> None:
    assert render(report()) == (
        "## worker, 2026-11-25 17:00 UTC\n\n    pathcast dev bench worker\n\n"
        "- machine: a machine\n- versions: py 3\n- servers: Kafka\n\n"
        "**rates**\n\n| what | pings/s | ± |\n| --- | ---: | --- |\n"
        "| worker \\| bare | 25,124 | 3 % |\n| step | 52,000 | 1 % |\n\n- a note\n"
    )


def test_the_newest_entry_comes_first_and_the_older_ones_stay_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "bench.md"
    first, second, third = report(), report("step", "2026-11-26 09:00 UTC"), report("scale", "2026-11-27 09:00 UTC")
    for one in (first, second, third):
        record(one, path)
    assert path.read_text() == "\n".join([HEADING, render(third), render(second), render(first)])


def test_what_people_wrote_above_the_entries_stays(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "bench.md"
    path.parent.mkdir()
    path.write_text("# Ours\n\nread this\n\n## worker, long ago\n\nold\n")
    record(report("step"), path)
    assert path.read_text().startswith("# Ours\n\nread this\n\n## step, ")
    assert path.read_text().endswith("\n\n## worker, long ago\n\nold\n")


def test_json_keeps_every_digit_and_says_where_from() -> None:
    told = msgspec.json.decode(dumps(report()))
    assert told["numbers"] == {"ratio": 0.123456789}
    assert (told["bench"], told["machine"], told["command"]) == ("worker", "a machine", "pathcast dev bench worker")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (25_123.7, "25,124"),
        (99.94, "99.9"),
        (1.005, "1.00"),
        (0.43121, "0.431"),
        (0.0, "0"),
        (1_234_567, "1,234,567"),
        (7, "7"),
        ("as it is", "as it is"),
    ],
)
def test_numbers_are_shown_with_three_digits_that_mean_something(cell: str | float, text: str) -> None:
    assert shown(cell) == text
