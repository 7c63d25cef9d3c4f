"""Finds the trips of vehicles that do not name them, ping by ping in the order of their times.

Hidden is which trip a vehicle serves, and where along its path it is (Newson and Krumm, Hidden Markov map matching,
2009, with the trip as a part of the state). A trip's score is a logarithm: the evidence of its path (`tracks`); how
likely a vehicle is that late or early; whether its block comes to it next; and whether another vehicle is on it. Beside
all trips stands the vehicle on no trip, with a score of 0. A trip is told when its share of all is clear.
It has no clock, and the same pings give the same trips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from stream.transit.assigning.candidates import Candidates, Near, Service
from stream.transit.assigning.tracks import LEAST, MOST, Track
from stream.transit.schedule import Schedule

LATE_SCALE_S: Final = 300.0  # a vehicle that is later by so much is 1/e as likely
EARLY_SCALE_S: Final = 75.0  # and one that is earlier: drivers wait
WAIT_SCALE_S: Final = 500.0  # one that waits at the first stop
SEEN_LATE_S: Final = 60.0  # lateness below this is none
STARTED_M: Final = 100.0  # along the path: before, a vehicle may wait for its departure
BLOCK: Final = 4.0  # the trip that the vehicle's block serves next
STAY: Final = 4.0  # the trip that the vehicle is on already
TAKEN: Final = -5.0  # a trip that another vehicle is on
CLEAR: Final = 0.75  # the share of all from which a trip is told,
KEPT: Final = 0.5  # and down to which it is kept
FORGOTTEN_S: Final = 5_400.0  # a silent vehicle
OWNED_S: Final = 600.0  # a trip whose vehicle was silent for longer is free
SEARCH_EVERY_S: Final = 120.0  # a vehicle on a trip looks for other paths so often
MOST_TRACKS: Final = 24
SURE_TRACKS: Final = 8  # of a vehicle that is on a trip
END_M: Final = 30.0  # before the last stop's reach: a trip that came so far is over
SILENT_S: Final = 1_200.0  # after such a silence, a vehicle may be on any trip


class Found(NamedTuple):
    """The trip of a vehicle. `assigned`: it was found, as the vehicle does not name it."""

    trip_id: str
    assigned: bool


class Belief(NamedTuple):
    """The trip that a vehicle was found to be on, and its place along that, as known before a restart."""

    service: Service
    at_s: float
    along_m: float


@dataclass(slots=True)
class Vehicle:
    """What is known of one vehicle."""

    seen_s: float
    searched_s: float = -math.inf
    tracks: dict[int, Track] = field(default_factory=dict)  # by path
    on: Service | None = None
    over: Service | None = None  # the trip that it served before
    next: Service | None = None  # what its block serves after that


class Assigner:
    """The vehicles of one feed, and the trips that they are on."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._candidates: Candidates | None = None
        self._vehicles: dict[str, Vehicle] = {}
        self._owners: dict[Service, tuple[str, float]] = {}
        self._beliefs: dict[str, Belief] = {}  # by entity
        self._forgot_s = -math.inf

    def find(
        self,
        entity: str,
        t_s: float,
        lat_deg: float,
        lon_deg: float,
        trip_id: str | None = None,
        route_id: str | None = None,
    ) -> Found | None:
        """Takes a ping. Returns the trip that it names, or the one that was found; None if there is no clear one.

        `route_id`: the route that the vehicle names, where it names one; other trips are then not looked at.
        """
        self._forget(t_s)
        if trip_id is not None:
            if self._candidates is not None:  # else all vehicles name their trips, and nobody is looked for
                self._note(entity, trip_id, t_s)
            return Found(trip_id, False)
        vehicle = self._vehicles.get(entity)
        if vehicle is None:
            vehicle = self._vehicles[entity] = Vehicle(t_s)
        elif t_s <= vehicle.seen_s:
            return None
        if t_s - vehicle.seen_s > SILENT_S:
            vehicle.tracks.clear()
            self._leave(entity, vehicle)
        vehicle.seen_s = t_s
        self._take_belief(entity, vehicle, t_s)
        self._observe(vehicle, t_s, lat_deg, lon_deg, route_id)
        self._decide(entity, vehicle, t_s)
        if vehicle.on is None:
            return None
        return Found(vehicle.on.trip_id, True)

    def believe(self, entity: str, trip_id: str, day: date, at_s: float, along_m: float) -> None:
        """Takes the trip that a vehicle was on before a restart. Its next ping begins with that, if nothing has been
        found of it until then; and it loses the trip as any other, if its way does not fit."""
        if trip_id in self.schedule.trips:
            self._beliefs[entity] = Belief(Service(trip_id, day), at_s, along_m)

    def _take_belief(self, entity: str, vehicle: Vehicle, t_s: float) -> None:
        belief = self._beliefs.get(entity)
        if belief is None or t_s <= belief.at_s:
            return
        del self._beliefs[entity]
        owner, owned_s = self._owners.get(belief.service, (entity, t_s))
        is_taken = owner != entity and t_s - owned_s < OWNED_S
        if vehicle.on is None and not is_taken and t_s - belief.at_s <= SILENT_S:
            path = self.candidates.path_of[belief.service.trip_id]
            vehicle.tracks[path] = Track(
                self.candidates.pattern(path).path, MOST, belief.along_m, belief.at_s, 0, belief.along_m,
                [(belief.along_m, 0.0)],
            )  # fmt: skip
            vehicle.on = belief.service

    def forget_entity(self, entity: str) -> None:
        """Drops all that is kept of one vehicle."""
        self._beliefs.pop(entity, None)
        vehicle = self._vehicles.pop(entity, None)
        if vehicle is not None:
            self._leave(entity, vehicle)

    @property
    def candidates(self) -> Candidates:
        """Returns the index of the feed's paths. It is made for the first vehicle that names no trip, if nobody has
        made it before."""
        if self._candidates is None:
            self._candidates = Candidates(self.schedule)
        return self._candidates

    @property
    def has_index(self) -> bool:
        return self._candidates is not None

    def make_index(self) -> None:
        """Makes the index, which takes seconds for a large feed: it may be done in a thread, if nothing is asked of
        the assigner meanwhile."""
        self._candidates = Candidates(self.schedule)

    def _note(self, entity: str, trip_id: str, t_s: float) -> None:
        """Takes over the trip that a vehicle names: others are not on it, and its block is known."""
        trip = self.schedule.trips.get(trip_id)
        if trip is None:
            return
        day = self.schedule.days.nearest(trip.service_id, int(trip.departure_N[0]), int(trip.arrival_N[-1]), t_s)
        service = Service(trip_id, day)
        vehicle = self._vehicles.setdefault(entity, Vehicle(t_s))
        if vehicle.on != service:
            self._leave(entity, vehicle)
            vehicle.tracks.clear()
            vehicle.on = service
        vehicle.seen_s = max(vehicle.seen_s, t_s)
        self._owners[service] = (entity, t_s)

    def _observe(self, vehicle: Vehicle, t_s: float, lat_deg: float, lon_deg: float, route_id: str | None) -> None:
        for track in vehicle.tracks.values():
            track.observe(t_s, lat_deg, lon_deg)
        over = vehicle.on and self._track_of(vehicle, vehicle.on)
        if over and vehicle.on and over.along_m >= self._end_m(self.candidates.path_of[vehicle.on.trip_id]):
            self._finish(vehicle)
        kept = {path: track for path, track in vehicle.tracks.items() if not (track.at_s is None and track.missed)}
        vehicle.tracks = {path: track for path, track in kept.items() if self.candidates.fits_route(path, route_id)}
        sure = vehicle.on is not None and self._track_of(vehicle, vehicle.on) is not None
        if not sure or t_s - vehicle.searched_s >= SEARCH_EVERY_S:
            vehicle.searched_s = t_s
            self._search(vehicle, t_s, lat_deg, lon_deg, route_id)
        most = SURE_TRACKS if sure else MOST_TRACKS
        if len(vehicle.tracks) > most:
            own = vehicle.on and self.candidates.path_of[vehicle.on.trip_id]
            ranked = sorted(vehicle.tracks.items(), key=lambda one: (one[0] != own, -one[1].evidence, one[0]))
            vehicle.tracks = dict(ranked[:most])

    def _search(self, vehicle: Vehicle, t_s: float, lat_deg: float, lon_deg: float, route_id: str | None) -> None:
        for path in self.candidates.paths_near(lat_deg, lon_deg, route_id):
            if path not in vehicle.tracks and self.candidates.runs_near(path, t_s):
                track = Track(self.candidates.pattern(path).path)
                track.observe(t_s, lat_deg, lon_deg)
                if track.at_s is not None and track.along_m < self._end_m(path):
                    vehicle.tracks[path] = track

    def _track_of(self, vehicle: Vehicle, service: Service) -> Track | None:
        return vehicle.tracks.get(self.candidates.path_of[service.trip_id])

    def _end_m(self, path: int) -> float:
        return float(self.candidates.pattern(path).reached_N[-1]) - END_M

    def _finish(self, vehicle: Vehicle) -> None:
        """Ends the trip that the vehicle is on. Its path begins anew, as the next trip may go the same way."""
        assert vehicle.on is not None
        del vehicle.tracks[self.candidates.path_of[vehicle.on.trip_id]]
        for track in vehicle.tracks.values():
            track.evidence = min(track.evidence, 1.0)
        vehicle.over, vehicle.next, vehicle.on = vehicle.on, self.candidates.after(vehicle.on), None

    def _leave(self, entity: str, vehicle: Vehicle) -> None:
        """Gives up the trip that a vehicle is on. It may come back to it, or to what its block serves next."""
        if vehicle.on is not None:
            if self._owners.get(vehicle.on, ("", 0.0))[0] == entity:
                del self._owners[vehicle.on]
            vehicle.next, vehicle.on = self.candidates.after(vehicle.on), None

    def _decide(self, entity: str, vehicle: Vehicle, t_s: float) -> None:
        scores: dict[Service, float] = {}
        for path, track in vehicle.tracks.items():
            if track.at_s is None or track.along_m >= self._end_m(path) or track.evidence <= LEAST:
                continue
            near = self.candidates.near(path, track.along_m, t_s)
            for service, prior in zip(near.services_T, _priors(near, track.along_m < STARTED_M), strict=True):
                score = track.evidence + prior + self._bonus(entity, vehicle, service, t_s)
                if score > scores.get(service, -math.inf):
                    scores[service] = score
        scores.pop(vehicle.over, None)  # type: ignore[arg-type]
        best = max(scores, key=lambda one: (scores[one], one), default=None)
        share = 0.0 if best is None else math.exp(scores[best]) / (1.0 + sum(map(math.exp, scores.values())))
        if best is not None and best != vehicle.on and share >= CLEAR:
            self._leave(entity, vehicle)
            vehicle.on = best
        elif vehicle.on is not None:
            own = math.exp(scores[vehicle.on]) if vehicle.on in scores else 0.0
            if own < KEPT * (1.0 + sum(map(math.exp, scores.values()))):
                self._leave(entity, vehicle)
        if vehicle.on is not None:
            owner, owned_s = self._owners.get(vehicle.on, (entity, t_s))
            if owner != entity and t_s - owned_s < OWNED_S and owner in self._vehicles:
                other = self._vehicles[owner]
                if other.on == vehicle.on:  # it had much better evidence, or it would not be chosen
                    other.on = None
            self._owners[vehicle.on] = (entity, t_s)

    def _bonus(self, entity: str, vehicle: Vehicle, service: Service, t_s: float) -> float:
        bonus = STAY * (service == vehicle.on) + BLOCK * (service == vehicle.next)
        owner, owned_s = self._owners.get(service, (entity, t_s))
        return bonus + TAKEN * (owner != entity and t_s - owned_s < OWNED_S)

    def _forget(self, t_s: float) -> None:
        if t_s - self._forgot_s < OWNED_S:
            return
        self._forgot_s = t_s
        for entity in [one for one, vehicle in self._vehicles.items() if t_s - vehicle.seen_s > FORGOTTEN_S]:
            del self._vehicles[entity]
        for entity in [one for one, belief in self._beliefs.items() if t_s - belief.at_s > FORGOTTEN_S]:
            del self._beliefs[entity]
        for service in [one for one, (_, owned_s) in self._owners.items() if t_s - owned_s > FORGOTTEN_S]:
            del self._owners[service]


def _priors(near: Near, waits: bool) -> list[float]:
    """Returns how likely a vehicle is that late or early, as logarithms."""
    found = []
    for late_s, ahead_s in zip(near.late_T.tolist(), near.ahead_T.tolist(), strict=True):
        if waits and ahead_s > 0:
            found.append(-ahead_s / WAIT_SCALE_S)
        elif late_s >= 0:
            found.append(-max(0.0, late_s - SEEN_LATE_S) / LATE_SCALE_S)
        else:
            found.append(late_s / EARLY_SCALE_S)
    return found
