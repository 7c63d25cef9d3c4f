"""Turns what a predictor knows into plain values and back, so that it outlives its process.

What was learnt does not depend on a feed: the paces of links go by the stops of each link. Trips under way do, and are
put back into a predictor of the feed that they began with. Questions that wait for their answers are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.transit.matching import Progress
from stream.transit.predicting.asking import Run, start_run
from stream.transit.predicting.corrections import Corrections
from stream.transit.predicting.paces import Paces, match_links
from stream.transit.predicting.predictor import Predictor
from stream.transit.predicting.residuals import FadingMean, Residuals

Floats = NDArray[np.float64]

_PACES: Final = ("_driven_s", "_scheduled_s", "_at_s")
_RESIDUALS: Final = ("_total", "_weight", "_at_s")
_ALL_LINKS: Final = ("_driven_s", "_expected_s", "_at_s")
_CORRECTIONS: Final = ("_square", "_moment", "weights_SKF", "_errors", "ends_s")
# Of a run, what the feed says again.
_OF_FEED: Final = frozenset({"trip", "pattern", "day", "arrival_N", "departure_N", "scheduled_L", "progress"})
_PLAIN: Final = (bool, int, float, str, type(None))


def dump_learnt(predictor: Predictor) -> dict[str, Any]:
    """Returns what was learnt: numbers, texts, lists and bytes."""
    paces, corrections, residuals = predictor.paces, predictor.corrections, predictor.residuals
    return {
        "links": predictor.schedule.link_stops(),
        "paces": {name: _dump(getattr(paces, name)) for name in _PACES},
        "all_links": [getattr(paces.all_links, name) for name in _ALL_LINKS],
        "corrections": {name: _dump(getattr(corrections, name)) for name in _CORRECTIONS},
        "residuals": {name: _dump(getattr(residuals, name)) for name in _RESIDUALS},
        "routes": {route: astuple(mean) for route, mean in residuals.routes.items()},
        "vehicles": {vehicle: astuple(mean) for vehicle, mean in residuals.vehicles.items()},
        "own": predictor._own,
        "late": predictor._late,
    }


def restore_learnt(predictor: Predictor, learnt: Mapping[str, Any]) -> None:
    """Lets a predictor, of the same feed or another one, know what was learnt. Raises ValueError, KeyError or TypeError
    for anything else, and then it knows nothing of it."""
    links = [(str(first), str(second)) for first, second in learnt["links"]]
    paces = Paces(len(links))
    for name in _PACES:
        setattr(paces, name, _load(learnt["paces"][name], getattr(paces, name).shape))
    for name, value in zip(_ALL_LINKS, learnt["all_links"], strict=True):
        setattr(paces.all_links, name, float(value))
    corrections = Corrections(predictor.corrections.n_numbers)
    for name in _CORRECTIONS:
        setattr(corrections, name, _load(learnt["corrections"][name], getattr(corrections, name).shape))
    residuals = Residuals(len(links))
    for name in _RESIDUALS:
        setattr(residuals, name, _load(learnt["residuals"][name], getattr(residuals, name).shape))
    residuals.routes = {str(route): _load_mean(mean) for route, mean in learnt["routes"].items()}
    residuals.vehicles = {str(vehicle): _load_mean(mean) for vehicle, mean in learnt["vehicles"].items()}
    own = {str(one): float(share) for one, share in learnt["own"].items()}
    late = {str(one): (float(at_s), float(late_s)) for one, (at_s, late_s) in learnt["late"].items()}
    ours, theirs = match_links(links, predictor.schedule.link_stops())
    predictor.paces.take_over(paces, ours, theirs)
    predictor.residuals.take_over(residuals, ours, theirs)
    predictor.corrections, predictor._own, predictor._late = corrections, own, late


def dump_runs(predictor: Predictor) -> list[dict[str, Any]]:
    """Returns the trips under way."""
    return [
        {
            "trip": run.trip.trip_id,
            "day": run.day.isoformat(),
            "run": _plain(run, _OF_FEED | {"questions"}),
            "progress": _plain(run.progress, frozenset({"path"})),
            "residual": astuple(run.residual),
        }
        for run in predictor.runs.values()
    ]


def restore_runs(predictor: Predictor, dumped: Sequence[Mapping[str, Any]]) -> None:
    """Lets a predictor of the same feed go on with these trips. Raises as `restore_learnt`."""
    runs = {}
    for one in dumped:
        trip, day = predictor.schedule.trips[one["trip"]], date.fromisoformat(one["day"])
        entity = str(one["run"]["entity"])
        run = start_run(trip, predictor.schedule.pattern(trip), day, predictor.schedule.days.start_s(day), entity, None)
        _set(run, one["run"])
        _set(run.progress, one["progress"])
        run.residual = _load_mean(one["residual"])
        runs[trip.trip_id, entity] = run
    predictor.runs.update(runs)
    predictor._on.update({entity: (trip_id, entity) for (trip_id, entity), run in runs.items() if not run.is_over})


def _plain(one: Run | Progress, without: frozenset[str]) -> dict[str, Any]:
    names = [each.name for each in fields(one) if each.name not in without]
    return {name: value for name in names if isinstance(value := getattr(one, name), (*_PLAIN, list))}


def _set(one: Run | Progress, values: Mapping[str, Any]) -> None:
    known = {each.name for each in fields(one)}
    for name, value in values.items():
        if name in known:
            setattr(one, name, [tuple(each) for each in value] if isinstance(value, list) else value)


def _load_mean(values: Sequence[Any]) -> FadingMean:
    total, weight, at_s = map(float, values)
    return FadingMean(total, weight, at_s)


def _dump(array: Floats) -> bytes:
    return np.ascontiguousarray(array, "<f8").tobytes()


def _load(raw: bytes, shape: tuple[int, ...]) -> Floats:
    return np.frombuffer(raw, "<f8").reshape(shape).astype(np.float64)
