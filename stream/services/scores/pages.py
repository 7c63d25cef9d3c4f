"""The metrics of a member that scores, beside those that every member has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stream.members.pages import PARTITION, Row, counter, gauge
from stream.services.scores.sums import Labels, Sum
from stream.wire import MEASURED

if TYPE_CHECKING:
    from stream.services.scores.member import Runner


class Place(NamedTuple):
    """Where one partition stands."""

    ready: bool
    entities: int
    forecasts: int
    counts: Mapping[str, int]  # as `Scorer` has them


def _sum(name: str, text: str, read: Callable[[Sum], float]) -> Row:
    return counter(name, text, lambda one: {key: read(of) for key, of in one.sums.sums.items()}, *Labels._fields)


def _each(read: Callable[[Place], Any]) -> Callable[[Runner], Mapping[int, Any]]:
    """Returns what reads a value of each partition."""
    return lambda member: {number: read(place) for number, place in member.places().items()}


def _counts(*names: str) -> Callable[[Runner], Mapping[tuple[int, str], int]]:
    """Returns what reads these counts of each partition."""
    return lambda member: {
        (number, name): place.counts.get(name, 0) for number, place in member.places().items() for name in names
    }


_RECORDS: Final = _counts("waits", "duplicate", "copy", "thinned", "unreadable")
_FORGOTTEN: Final = _counts("silent", "anew", "evicted")
ROWS: Final = (
    _sum("scored", "Forecasts that a later ping was compared with.", lambda one: one.scored),
    _sum("unscored", "Forecasts for whose time no ping came.", lambda one: one.unscored),
    _sum("error_metres", "Sum of their errors.", lambda one: one.error_m),
    _sum("inside50", "Inside the 50 % region.", lambda one: one.inside50),
    _sum("inside90", "Inside the 90 % region.", lambda one: one.inside90),
    _sum("compared", "Those that damped velocity has an error for, too.", lambda one: one.compared),
    _sum("compared_error_metres", "Sum of the errors of these.", lambda one: one.compared_error_m),
    _sum("damped_error_metres", "Sum of damped velocity's errors of these.", lambda one: one.damped_error_m),
    counter("forecasts", "Scores published, by the forecast's status.", lambda one: one.sums.statuses, "status"),
    counter(
        "drifts",
        "Lasting changes that were found.",
        lambda one: {name: one.sums.drifts[name] for name in MEASURED},
        "measured",
    ),
    counter("records", "Forecast records, by what they were.", _RECORDS, "partition", "outcome"),
    counter("forgotten", "Entities given up, by why.", _FORGOTTEN, "partition", "reason"),
    gauge("ready", "1: ours, and all that waited is made again.", _each(lambda one: one.ready), *PARTITION),
    gauge("entities", "Entities of which something waits.", _each(lambda one: one.entities), *PARTITION),
    gauge("waiting_forecasts", "Forecasts whose time has not come.", _each(lambda one: one.forecasts), *PARTITION),
)
