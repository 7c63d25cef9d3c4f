"""Answers with GTFS-Realtime. A feed is made in a thread when it is asked for and records have changed since; of trips
that have not changed, what was written of them before is sent again."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from stream.api.live.topics import now_ms
from stream.api.trips.table import TripTable
from stream.http.problems import Refusal

if TYPE_CHECKING:  # it needs an extra
    from stream.api.trips.realtime import Kind, Writer

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
EXTRA: Final = "this server lacks the extra that writes it: pip install 'pathcast[readers]'"


class _Feed(NamedTuple):
    changes: int  # of the table, that it was made of
    body: bytes
    tag: str
    now_ms: int


class Feeds:
    """The feeds of one table."""

    def __init__(self, table: TripTable) -> None:
        self.table = table
        self._made: dict[str, _Feed] = {}
        self._writers: dict[str, Writer] = {}
        self._making: dict[str, asyncio.Task[_Feed]] = {}  # who asks meanwhile waits for the same

    async def answer(self, request: web.Request) -> web.Response:
        """Answers a request for `/gtfs-rt/KIND.pb` or `/gtfs-rt/KIND.json`; one that names the tag of the newest feed
        gets 304. Raises Refusal."""
        feed = await self._newest(request.path)
        headers = {"ETag": f'"{feed.tag}"', "Cache-Control": "no-cache"}
        if any(one.value in (feed.tag, "*") for one in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        is_json = request.path.endswith(".json")
        response = web.Response(body=feed.body, content_type=JSON if is_json else PROTOBUF, headers=headers)
        response.last_modified = feed.now_ms / 1000
        return response

    async def _newest(self, path: str) -> _Feed:
        made = self._made.get(path)
        if made is not None and made.changes == self.table.changes:
            return made
        making = self._making.get(path)
        if making is None or making.done():
            making = self._making[path] = asyncio.create_task(self._make(path))
        # It goes on if nobody waits any more: the first of many trips takes long, and is of use to who asks next.
        return await asyncio.shield(making)

    async def _make(self, path: str) -> _Feed:
        writer = self._writer(path)
        changes, trips = self.table.changes, self.table.under_way()
        at_ms = self.table.newest_ms or now_ms()

        def write() -> tuple[bytes, str]:
            body = writer.write(trips, at_ms)
            return body, hashlib.sha256(body).hexdigest()[:32]

        body, tag = await asyncio.to_thread(write)
        made = self._made[path] = _Feed(changes, body, tag, at_ms)
        return made

    def _writer(self, path: str) -> Writer:
        if path not in self._writers:
            try:
                from stream.api.trips import realtime
            except ModuleNotFoundError as error:
                raise Refusal("not_ready", EXTRA) from error
            kind: Kind = "trip-updates" if "/trip-updates." in path else "vehicle-positions"
            self._writers[path] = realtime.Writer(kind, as_json=path.endswith(".json"))
        return self._writers[path]
