"""Answers with GTFS-Realtime. A feed is made in a thread when it is asked for and records have changed since."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final, NamedTuple

from aiohttp import web

from stream.api.live.topics import now_ms
from stream.api.trips.table import TripTable
from stream.http.problems import Refusal

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
        self._making = asyncio.Lock()

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
        async with self._making:
            made = self._made.get(path)
            if made is None or made.changes != self.table.changes:
                made = self._made[path] = await self._make(path)
            return made

    async def _make(self, path: str) -> _Feed:
        try:
            from stream.api.trips import realtime
        except ModuleNotFoundError as error:
            raise Refusal("not_ready", EXTRA) from error
        kind, _, suffix = path.rpartition("/")[2].rpartition(".")
        changes, trips = self.table.changes, self.table.under_way()
        at_ms = self.table.newest_ms or now_ms()

        def write() -> bytes:
            return realtime.encode(realtime.MAKE[kind](trips, at_ms), as_json=suffix == "json")

        body = await asyncio.to_thread(write)
        return _Feed(changes, body, hashlib.sha256(body).hexdigest()[:32], at_ms)
