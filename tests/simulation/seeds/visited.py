"""Says what many worlds have visited: which faults they had, at which points of its work a host met one, and which
things met. Several runs can be added up in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from meetings import GROUPS, list_pairs, name_pair
from plans import OWN_POINTS
from trials import Tally

from stream.config import failpoints

WIDTH: Final = 7  # of a column
POINTS: Final = {*failpoints.NAMES, *OWN_POINTS}


class Visited(msgspec.Struct):
    """What all runs of a file came to."""

    runs: list[tuple[int, int]] = []  # the first seed of each, and the one that follows its last
    worlds: int = 0
    wrong: list[int] = []  # seeds
    events: dict[str, int] = {}  # how often each was, by its kind
    faults: dict[str, int] = {}  # how many worlds had each, by its kind
    met: dict[str, int] = {}  # in how many worlds two groups of `meetings` met

    def find_overlap(self, first: int, after: int) -> tuple[int, int] | None:
        """Returns a run that has played some of these seeds, if there is one: they would count twice."""
        return next((run for run in self.runs if run[0] < after and first < run[1]), None)

    def with_run(self, first: int, after: int, tally: Tally) -> Visited:
        """Returns this and one more run, of the seeds from `first` up to `after`, which is not one of them."""
        return Visited(
            [*self.runs, (first, after)],
            self.worlds + tally.worlds,
            [*self.wrong, *(seed for seed, _ in tally.found)],
            _add(self.events, tally.events),
            _add(self.faults, tally.faults),
            _add(self.met, tally.met),
        )


def read_visited(file: Path | None) -> Visited:
    """Returns what a file has, and nothing if it is not there. Raises msgspec.MsgspecError."""
    if file is None or not file.exists():
        return Visited()
    return msgspec.json.decode(file.read_bytes(), type=Visited)


def write_visited(file: Path, visited: Visited) -> None:
    """Writes all at once: a run that is stopped meanwhile leaves what was there."""
    beside = file.with_name(file.name + ".new")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(visited, order="sorted"), indent=1) + b"\n")
    beside.replace(file)


def describe(visited: Visited) -> Iterator[str]:
    """Yields the lines of a report."""
    yield f"faults, by how many of {visited.worlds} worlds had each:"
    shown = [f"{kind} {times}" for kind, times in sorted(visited.faults.items(), key=lambda one: (-one[1], one[0]))]
    yield from _wrap(shown)
    yield "what met within a few seconds, by how many worlds had it:"
    yield " " * 10 + "".join(f"{name[: WIDTH - 1]:>{WIDTH}}" for name in GROUPS)
    pairs = list(list_pairs())
    for at, row in enumerate(GROUPS):
        columns = list(GROUPS)[: at + 1]
        cells = (visited.met.get(name_pair(row, one), 0) if (one, row) in pairs else "" for one in columns)
        yield f"{row:10}" + "".join(f"{one:>{WIDTH}}" for one in cells)
    seen = sum(visited.met.get(name_pair(*pair), 0) > 0 for pair in pairs)
    yield f"visited: {seen} of {len(pairs)} pairs"
    for fault in ("kill", "pause"):
        met = {kind.partition("@")[2] for kind in visited.events if kind.startswith(f"{fault}@")}
        missed = ", ".join(sorted(POINTS - met))
        yield f"visited: a {fault} at {len(POINTS & met)} of {len(POINTS)} points{missed and f', not at {missed}'}"


def _wrap(words: list[str], width: int = 110) -> Iterator[str]:
    line = " "
    for word in words:
        if len(line) + len(word) > width:
            yield line
            line = " "
        line += f" {word},"
    yield line.rstrip(",")


def _add(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))
