"""Polls an address whose answers are snapshots, and sends what is new in each.

A poll asks with the ETag and the time of the last answer that Kafka has. While Kafka is away nothing is polled: the
snapshot that it did not take is given again when it is back, and only then counts as seen. What passed between two
polls is not in the feed.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from stream.adapters.live.parsed import Piece
from stream.adapters.live.snapshots import SentSightings, Sighting
from stream.ingest.publishing.delivering import deliver_pieces
from stream.ingest.publishing.sink import Sink
from stream.ingest.source import Source

MAX_ANSWER_BYTES: Final = 64 << 20  # unpacked; the feed of a whole country has two
CHUNK_BYTES: Final = 64 << 10
ANSWER_S: Final = 30.0
MAX_PAUSE_S: Final = 60.0  # between two tries while the server is away
MAX_RETRY_AFTER_S: Final = 3600.0  # what a server may ask us to wait
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*([\x20-\x7e]*?)\s*")  # RFC 9110, 5.6.2
_CONDITIONS: Final = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}

Reader = Callable[[bytes, int], list[Sighting]]


@dataclass(frozen=True)
class Feed:
    """States what is polled. Raises ValueError if the URL is none."""

    url: str
    every_s: float
    read: Reader
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a secret
    tolerance_ms: int = 0  # see `SentSightings`

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL with its http:// or https://, such as https://example.org/vehicles.pb")

    @property
    def origin(self) -> str:
        """Returns the URL without what may be a secret: user, password and query."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def parse_headers(lines: Iterable[str]) -> dict[str, str]:
    """Parses lines `NAME: VALUE`. Raises ValueError, which does not show the value, as it may be a secret."""
    found = {}
    for line in filter(str.strip, lines):
        match = _HEADER.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"a header is no 'NAME: VALUE' (it begins with {line.partition(':')[0][:20]!r})")
        found[match[1]] = match[2]
    return found


async def poll(feed: Feed, sink: Sink, source: Source) -> None:
    """Polls for ever. Raises Refused if a broker denies access."""
    agent = {"User-Agent": f"pathcast/{version('pathcast')}"}
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(headers={**agent, **feed.headers}, timeout=timeout) as session:
        poller = Poller(feed, session, sink, source)
        while True:
            began_s = time.monotonic()
            pause_s = await poller.once()
            await asyncio.sleep(max(0.0, began_s + pause_s - time.monotonic()))


class Away(Exception):
    """The server has no snapshot for us; the text says why."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Poller:
    """One feed, and what was sent of it."""

    def __init__(self, feed: Feed, session: aiohttp.ClientSession, sink: Sink, source: Source) -> None:
        self.seen = SentSightings(feed.tolerance_ms)
        self._feed = feed
        self._session = session
        self._sink = sink
        self._source = source
        self._conditions: dict[str, str] = {}
        self._failures = 0

    async def once(self) -> float:
        """Polls once, and returns when Kafka has what is new. Returns the seconds from this poll to the next."""
        try:
            answer = await self._ask()
        except Away as away:
            return self._away(str(away), away.wait_s)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return self._away(str(error) or type(error).__name__)
        self._source.back()
        self._failures = 0
        if answer is not None:
            await self._send(*answer)
        return self._feed.every_s

    async def _ask(self) -> tuple[bytes, dict[str, str]] | None:
        """Returns the answer, and the conditions of the next poll; None if nothing has changed."""
        # A redirect elsewhere would carry a key in a header there.
        follows = not self._feed.headers
        async with self._session.get(self._feed.url, headers=self._conditions, allow_redirects=follows) as answer:
            if answer.status == 304:
                return None
            if answer.status != 200:
                raise Away(_refusal(answer.status), _retry_after_s(answer.headers.get("Retry-After", "")))
            body = bytearray()
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise Away(f"its answer is larger than {MAX_ANSWER_BYTES:,} bytes")
            return bytes(body), {
                ours: answer.headers[name] for name, ours in _CONDITIONS.items() if name in answer.headers
            }

    async def _send(self, body: bytes, conditions: dict[str, str]) -> None:
        found = self.seen.skip_sent(self._feed.read(body, time.time_ns() // 1_000_000))
        await deliver_pieces(self._sink, [Piece(one.parsed, one.raw) for one in found], self._feed.origin)
        self.seen.remember(found)
        self._conditions = conditions

    def _away(self, why: str, wait_s: float = 0.0) -> float:
        self._source.away(f"{self._feed.origin}: {why}")
        self._failures += 1
        return max(self._feed.every_s, wait_s, min(MAX_PAUSE_S, 2.0 ** min(self._failures, 10)))


def _refusal(status: int) -> str:
    if status in (401, 403):
        return f"HTTP {status}: is a header with a key missing, or wrong?"
    if status in (301, 302, 303, 307, 308):
        return f"HTTP {status}: it moved elsewhere, and we do not take our header there; give the new URL"
    return f"HTTP {status}"


def _retry_after_s(text: str) -> float:
    """Returns the seconds of a Retry-After; 0 if there is none, or a date."""
    with suppress(ValueError):
        return min(max(0.0, float(text)), MAX_RETRY_AFTER_S)
    return 0.0
