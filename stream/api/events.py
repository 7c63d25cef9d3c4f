"""The messages of the live feed, and those of every operation: errors, and the health of this process."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from stream.api.messages import MAX_WATCHED, AnswerPart, BBox, EntityId, RequestPart
from stream.http.problems import Problem
from stream.wire import Forecast


class SnapshotMessage(AnswerPart, frozen=True, kw_only=True, tag_field="type", tag="snapshot"):
    """Forget what you have: the newest forecasts of all entities follow."""


class ForecastMessage(AnswerPart, frozen=True, kw_only=True, tag_field="type", tag="forecast"):
    """The newest forecast of an entity."""

    id: str
    forecast: Forecast


class GoneMessage(AnswerPart, frozen=True, kw_only=True, tag_field="type", tag="gone"):
    """The entity has left the box, or was not heard of for long."""

    id: str
    entity_id: str


class LiveMessage(AnswerPart, frozen=True, kw_only=True, tag_field="type", tag="live"):
    """All that was there is sent: what follows is new."""

    id: str


class WatchMessage(RequestPart, frozen=True, kw_only=True):
    """Sent by a WebSocket's client: what it wants to be told of from now on, as in the parameters."""

    type: Literal["watch"]
    bbox: BBox | None = None
    entity: Annotated[tuple[EntityId, ...], msgspec.Meta(max_length=MAX_WATCHED)] = ()


class ProblemMessage(AnswerPart, frozen=True, kw_only=True, tag_field="type", tag="problem"):
    """Sent through a WebSocket, when a message of its client cannot be used."""

    problem: Problem


class Health(AnswerPart, frozen=True, kw_only=True):
    ok: bool
    reasons: list[str]


Document = Annotated[dict[str, Any], msgspec.Meta(description="An OpenAPI 3.1 document.")]
