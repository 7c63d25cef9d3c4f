"""What `--history` names, and how it is read.

topic, topic:NAME          the pings that the pings topic, or another one, still has
DIR                        an archive (`pathcast beside archive`), or a folder that will have one
archive:DIR_OR_URL?since=  the same, with a span of days
[FORMAT:]PATH              a recording
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from model.arrivals.passages import Passages
from stream.adapters.column_names import ColumnMap
from stream.services.arrivals.history.topic import Live
from stream.services.arrivals.history.topic import passages_of as of_topic

TOPIC: Final = "topic"
ARCHIVE: Final = "archive"
MOST_PINGS: Final = 1_000_000  # the newest; some 100 to 250 MB of memory


class History(NamedTuple):
    """Earlier tracks: `read` returns what is known of them now, and raises ValueError, OSError, or Refused."""

    source: str
    read: Callable[[], Passages]
    grows: bool  # later more is known: it is worth reading again


def history_of(given: str, live: Live, columns: str | None = None, most_pings: int = MOST_PINGS) -> History:
    """Returns what `--history` names. Nothing is read yet.

    Raises ValueError for a name that says nothing, FileNotFoundError if there is no such file.
    """
    kind, colon, rest = given.partition(":")
    if kind == TOPIC and (not colon or rest):
        return History(given, partial(_of_topic, live._replace(topic=rest or live.topic), most_pings), grows=True)
    if kind != ARCHIVE and _may_be_archive(given):
        given = f"{ARCHIVE}:{given}"
    archived = given.startswith(f"{ARCHIVE}:")
    names = None if columns is None else ColumnMap.parse(columns)
    if not (archived and is_empty(given)):
        from stream.adapters.sources import parse

        parse(given, names)  # so that a wrong name is told before anything else
    return History(given, partial(_of_source, given, names, most_pings), grows=archived)


def _of_topic(live: Live, most_pings: int) -> Passages:
    return asyncio.run(of_topic(live, most_pings))


def _of_source(given: str, names: ColumnMap | None, most_pings: int) -> Passages:
    if given.startswith(f"{ARCHIVE}:") and is_empty(given):
        none = np.zeros(0)
        return Passages(none.astype(np.int64), none, none, none.astype(bool), none.astype(np.int64))
    from stream.adapters.sources import parse  # it imports Arrow, which the topic does without
    from stream.services.arrivals.history.recorded import passages_of

    return passages_of(parse(given, names), most_pings)


def _may_be_archive(given: str) -> bool:
    """Returns whether the path is a folder with an archive, or an empty one."""
    from stream.adapters.archived.catalog import HEAD

    folder = Path(given.partition("?")[0])
    if not folder.is_dir():
        return False
    return (folder / HEAD).exists() or any(folder.glob(f"*/{HEAD}")) or is_empty(given)


def is_empty(given: str) -> bool:
    """Returns whether it is an archive's folder in which nothing has landed yet: a service may start before it."""
    folder = Path(given.removeprefix(f"{ARCHIVE}:").partition("?")[0])
    return folder.is_dir() and not any(_is_whole(file) for file in folder.rglob("*"))


def _is_whole(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")  # what is being written begins with a dot
