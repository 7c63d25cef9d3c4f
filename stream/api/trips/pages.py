"""Answers with GTFS-Realtime. A feed is made in a thread when it is asked for and records have changed since; of trips
that have not changed, what was written of them before is sent again."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import hdrs, web

from stream.api.live.topics import now_ms
from stream.api.trips.table import TripTable, newest_of_trips
from stream.http.encodings import takes_gzip
from stream.http.problems import Refusal

if TYPE_CHECKING:  # it needs an extra
    from stream.api.trips.realtime import Kind, Writer

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
LEVEL: Final = 1  # of gzip: of 10,000 trips 42 MB of JSON become 3.2 MB in 0.2 s, and 2.2 MB in twice that at level 6
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
        self._made: dict[tuple[str, bool], _Feed] = {}  # by path, and whether it is compressed
        self._writers: dict[str, Writer] = {}
        self._making: dict[tuple[str, bool], asyncio.Task[_Feed]] = {}  # who asks meanwhile waits for the same

    async def answer(self, request: web.Request) -> web.Response:
        """Answers a request for `/gtfs-rt/KIND.pb` or `/gtfs-rt/KIND.json`; one that names the tag of the newest feed
        gets 304. Raises Refusal."""
        is_gzipped = takes_gzip(request)
        feed = await self._newest(request.path, is_gzipped)
        headers = {hdrs.ETAG: f'"{feed.tag}"', hdrs.CACHE_CONTROL: "no-cache", hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if any(one.value in (feed.tag, "*") for one in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        if is_gzipped:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        is_json = request.path.endswith(".json")
        response = web.Response(body=feed.body, content_type=JSON if is_json else PROTOBUF, headers=headers)
        response.last_modified = feed.now_ms / 1000
        return response

    async def _newest(self, path: str, is_gzipped: bool) -> _Feed:
        key = path, is_gzipped
        made = self._made.get(key)
        if made is not None and made.changes == self.table.changes:
            return made
        making = self._making.get(key)
        if making is None or making.done():
            making = self._making[key] = asyncio.create_task(self._compress(path) if is_gzipped else self._make(path))
        # It goes on if nobody waits any more: the first of many trips takes long, and is of use to who asks next.
        return await asyncio.shield(making)

    async def _compress(self, path: str) -> _Feed:
        feed = await self._newest(path, False)
        body = await asyncio.to_thread(gzip.compress, feed.body, LEVEL, mtime=0)
        made = self._made[path, True] = feed._replace(body=body, tag=f"{feed.tag}-gzip")
        return made

    async def _make(self, path: str) -> _Feed:
        writer = self._writer(path)
        changes, trips = self.table.changes, self.table.heard()
        at_ms = self.table.newest_ms or now_ms()

        def write() -> tuple[bytes, str]:
            body = writer.write(newest_of_trips(trips), at_ms)
            return body, hashlib.sha256(body).hexdigest()[:32]

        body, tag = await asyncio.to_thread(write)
        made = self._made[path, False] = _Feed(changes, body, tag, at_ms)
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
