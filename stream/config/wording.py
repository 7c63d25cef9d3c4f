"""Numbers with their nouns, as people write them: 1 day, 2 days, 6,724 pings."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """Returns the number and the noun; `several` is the plural, if it is not `one` and an s."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
