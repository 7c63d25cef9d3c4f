"""Describes a published copy that is not equal to the due answer, and judges it when it was read back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from stream.verify.compare import Tolerance, forecast_difference, gapfill_difference, letter_difference
from stream.verify.published import Copy
from stream.wire import Outgoing, Record, Topics, loads_forecast, loads_gapfill

Place = tuple[str, int, int]  # topic, partition, offset


class Doubt(NamedTuple):
    """A published copy whose digest is not that of the due answer. Without a tolerance, its numbers must be equal."""

    due: Outgoing
    place: Place
    times: int
    tolerance: Tolerance | None
    among: Mixed | None = None


@dataclass(eq=False)
class Mixed:
    """The copies of an answer to a record after a truncation: some are equal to the due answer, others are in doubt."""

    due: Outgoing
    copies: list[Copy]  # those that are known not to be orphans


def difference(doubt: Doubt, published: Record, topics: Topics) -> tuple[str | None, bool]:
    """Returns why the copy differs, if it does, and whether it is of another model."""
    due = doubt.due
    if due.topic == topics.dead_letters:
        return letter_difference(as_published(due), published), False
    if published.key != due.key:
        return f"its key is {published.key!r}, expected {due.key!r}", False
    if due.topic == topics.gapfills:
        fill, other = loads_gapfill(due.value or b""), loads_gapfill(published.value or b"")
        assert doubt.tolerance is not None
        return gapfill_difference(fill, other, doubt.tolerance), other.model != fill.model
    forecast, found = loads_forecast(due.value or b""), loads_forecast(published.value or b"")
    return forecast_difference(forecast, found, doubt.tolerance), found.model != forecast.model


def as_published(answer: Outgoing) -> Record:
    """Returns an answer as its reader sees it, apart from its place."""
    return Record(answer.topic, -1, -1, -1, answer.key, answer.value, answer.headers)
