"""Which metrics a PromQL expression speaks of. Tests import this; it tests nothing itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

NAMES = re.compile(r"\b(?:pathcast_\w+|process_\w+|up|ALERTS)\b")


def names(expr: str) -> set[str]:
    """The names in the expression, and each of those that a `__name__=~"..."` stands for."""
    chosen = {name for regex in re.findall(r'__name__=~"([^"]*)"', expr) for name in _expanded(regex)}
    return chosen | set(NAMES.findall(re.sub(r'"[^"]*"', "", expr)))


def _expanded(regex: str) -> Iterator[str]:
    """The names that match; of a regex that is a name with one group of alternatives, as ours are."""
    found = re.fullmatch(r"(\w+)\(([\w|]+)\)(\w+)", regex)
    assert found, f"{regex!r} is no name with one group of alternatives"
    before, alternatives, after = found.groups()
    return (f"{before}{one}{after}" for one in alternatives.split("|"))
