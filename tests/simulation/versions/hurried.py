"""Announces versions within a second, by the product's own code, as the pings of a world come for some seconds only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.versions.announcing import Announcer
from stream.wire import Topics

SAMPLE_S: Final = 0.2
LEAD_S: Final = 0.5


class HurriedAnnouncer(Announcer):
    """Stands for `Announcer` where its user names no times."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, bootstrap: str, topics: Topics, security: KafkaSecurity = PLAIN_KAFKA, **_: Any
    ) -> AsyncIterator[Announcer]:
        opened: AbstractAsyncContextManager[Announcer] = super().open(
            bootstrap, topics, security, lead_s=LEAD_S, sample_s=SAMPLE_S
        )
        async with opened as announcer:
            yield announcer
