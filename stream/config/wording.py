"""Numbers with their nouns, as people write them: 1 day, 2 days, 6,724 pings; and partitions."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """Returns the number and the noun; `several` is the plural, if it is not `one` and an s."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def place(partition: tuple[str, int]) -> str:
    """Returns a partition's name in a sentence: partition 3 of pathcast.pings.v1."""
    return f"partition {partition[1]} of {partition[0]}"
