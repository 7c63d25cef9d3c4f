"""Every operation of the API: its path, parameters, body, answers and errors. The routes are made of this table, and so
is the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec

from stream.api import events
from stream.api import messages as m

JSON: Final = "application/json"
GEO_JSON: Final = "application/geo+json"
EVENTS: Final = "text/event-stream"
TEXT: Final = "text/plain"
PROTOBUF: Final = "application/x-protobuf"
ALWAYS: Final = (429, 500, 503)  # what any operation that asks for a token may answer
OPEN: Final = (500, 503)

Types = Mapping[str, Any]  # by content type


@dataclass(frozen=True)
class Operation:
    """One operation."""

    name: str
    method: str
    path: str
    summary: str
    text: str
    answers: Types  # with the status 200
    path_parameters: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # that it reads, and what for
    bodies: Types = field(default_factory=dict)
    problems: tuple[int, ...] = ()  # its own, beside those that every operation has
    is_open: bool = False  # clients without the token may ask it
    takes_ticket: bool = False  # in the token's place
    status: int = 200

    @property
    def statuses(self) -> list[int]:
        """The statuses of its errors."""
        own = {*self.problems, 400} if self.query or self.path_parameters or self.bodies else set(self.problems)
        if self.bodies:
            own |= {408, 413, 415}
        return sorted(own | set(OPEN if self.is_open else (401, *ALWAYS)))


STREAMED: Final = events.ForecastMessage | events.GoneMessage | events.LiveMessage | events.SnapshotMessage
RESUMES: Final = {
    "Last-Event-ID": "The id of the last message that was received: what has changed since is sent, and no snapshot."
}
Binary = Annotated[bytes, msgspec.Meta(description="A FeedMessage of GTFS-Realtime 2.0, as protobuf.")]
TAG: Final = {"If-None-Match": "The ETag of an earlier answer: if nothing has changed since, the answer is 304."}

OPERATIONS: Final = (
    Operation(
        name="forecastEntity",
        method="GET",
        path="/v1/entities/{id}/forecast",
        summary="Where will it be?",
        text="Forecasts an entity at any horizons, from the state that its worker stored last. For the horizons and "
        "the state of a published forecast, the numbers are the same. The answer says how old the state is.",
        path_parameters=m.OfEntity,
        query=m.ForecastQuery,
        answers={JSON: m.EntityForecast},
        problems=(404, 409, 410),
    ),
    Operation(
        name="getEntity",
        method="GET",
        path="/v1/entities/{id}",
        summary="Its newest published forecast",
        text="Returns the newest forecast of an entity as a worker published it, from memory.",
        path_parameters=m.OfEntity,
        answers={JSON: m.NewestForecast},
        problems=(404,),
    ),
    Operation(
        name="listEntities",
        method="GET",
        path="/v1/entities",
        summary="Who is where?",
        text="Lists the newest position of each entity of which a forecast was heard of lately, page by page.",
        query=m.ListQuery,
        answers={JSON: m.Entities},
    ),
    Operation(
        name="fillGaps",
        method="POST",
        path="/v1/gapfill",
        summary="Fill the gaps of a track",
        text="Fills the gaps of a track as a worker fills them. Nothing is kept. A track is JSON, or a GeoJSON feature "
        "with `properties.times`; the answer is of the same kind.",
        bodies={JSON: m.Track, GEO_JSON: m.TrackFeature},
        answers={JSON: m.FilledTrack, GEO_JSON: m.FilledFeature},
        problems=(422,),
    ),
    Operation(
        name="estimateArrival",
        method="POST",
        path="/v1/eta",
        summary="When is it there?",
        text="Estimates when an entity, or a track that is sent, reaches a destination if it goes there now: from its "
        "forecast, as `pathcast arrivals` does without earlier passages.",
        bodies={JSON: m.EtaQuestion},
        answers={JSON: m.Eta},
        problems=(404, 409, 410, 422),
    ),
    Operation(
        name="streamEvents",
        method="GET",
        path="/v1/stream",
        summary="What happens, as server-sent events",
        text="Sends a snapshot, then each newest forecast as it comes. The data of each event is one of the messages "
        "below. A client that is slow gets the newest forecast of each entity, and not those in between; one that "
        "takes nothing for 10 s is dropped.",
        query=m.StreamQuery,
        headers=RESUMES,
        answers={EVENTS: STREAMED},
        takes_ticket=True,
    ),
    Operation(
        name="openSocket",
        method="GET",
        path="/v1/ws",
        summary="What happens, through a WebSocket",
        text="Sends the same messages, a text frame each. The client may send a WatchMessage to watch something else "
        "from then on; one that cannot be used is answered by a ProblemMessage.",
        query=m.StreamQuery,
        answers={JSON: STREAMED | events.ProblemMessage},
        status=101,
        problems=(426,),
        takes_ticket=True,
    ),
    Operation(
        name="giveTicket",
        method="POST",
        path="/v1/tickets",
        summary="A ticket for a browser's stream",
        text="Gives a ticket that opens one stream or WebSocket, once, as `ticket=` in the place of the token, which "
        "browsers' EventSource and WebSocket cannot send. Only the process that gave it takes it.",
        answers={JSON: m.Ticket},
    ),
    Operation(
        name="getTripUpdates",
        method="GET",
        path="/gtfs-rt/trip-updates.pb",
        summary="Arrivals of trips under way, as GTFS-Realtime",
        text="Returns a full data set of TripUpdates, of the trips that `pathcast beside transit` publishes: for each "
        "stop ahead its arrival and departure, with half of the 90 % interval as `uncertainty`.",
        headers=TAG,
        answers={PROTOBUF: Binary},
    ),
    Operation(
        name="getTripUpdatesAsJson",
        method="GET",
        path="/gtfs-rt/trip-updates.json",
        summary="The same as JSON",
        text="Returns the same message in protobuf's own JSON, with the names of the specification.",
        headers=TAG,
        answers={JSON: dict[str, Any]},
    ),
    Operation(
        name="getVehiclePositions",
        method="GET",
        path="/gtfs-rt/vehicle-positions.pb",
        summary="Vehicles of trips under way, as GTFS-Realtime",
        text="Returns a full data set of VehiclePositions: where each vehicle of a trip was heard last, and which stop "
        "comes next.",
        headers=TAG,
        answers={PROTOBUF: Binary},
    ),
    Operation(
        name="getVehiclePositionsAsJson",
        method="GET",
        path="/gtfs-rt/vehicle-positions.json",
        summary="The same as JSON",
        text="Returns the same message in protobuf's own JSON, with the names of the specification.",
        headers=TAG,
        answers={JSON: dict[str, Any]},
    ),
    Operation(
        name="describe",
        method="GET",
        path="/openapi.json",
        summary="This document",
        text="Returns the OpenAPI document.",
        answers={JSON: events.Document},
        is_open=True,
    ),
    Operation(
        name="health",
        method="GET",
        path="/healthz",
        summary="Does it live?",
        text="Answers while the process runs.",
        answers={JSON: events.Health},
        is_open=True,
    ),
    Operation(
        name="ready",
        method="GET",
        path="/readyz",
        summary="Can it answer?",
        text="Answers 200 if the forecasts are read up to now and Redis answers, else 503 with the reasons.",
        answers={JSON: events.Health},
        is_open=True,
    ),
    Operation(
        name="metrics",
        method="GET",
        path="/metrics",
        summary="Metrics of this process",
        text="Returns metrics in the text format of Prometheus.",
        answers={TEXT: str},
    ),
)
