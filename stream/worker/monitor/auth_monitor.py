"""Notices that Kafka denies access to a worker that had access before: its password was changed, for example, or the
brokers' certificate has expired. Open connections stay open; the next one is refused.

aiokafka's clients treat that like a broker that does not answer, and try for ever. They only log a line whose arguments
contain the error, so this is a handler of that log. tests/system/security/test_secured_servers.py fails when a release
of aiokafka logs it in another way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from stream.config.security import KafkaSecurity, Refused, kafka_refusal

CLIENT: Final = "aiokafka"  # the logger of its clients, both consumers and producers
CERTAIN_S: Final = 15.0  # how long refusals must last: one broker of several may get a new password later
PAUSE_S: Final = 10.0  # after a pause this long, the time starts again: clients retry after 100 ms (`retry_backoff_ms`)
LOOK_S: Final = 1.0


class AuthMonitor(logging.Handler):
    """Records the refusals that this process's clients log on threads of their own; `run` checks them."""

    def __init__(self, bootstrap: str, security: KafkaSecurity, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._bootstrap = bootstrap
        self._security = security
        self._clock = clock
        self._heard: tuple[Refused, float, float] | None = None  # the last refusal, the first one's time, its own time

    def emit(self, record: logging.LogRecord) -> None:
        for argument in record.args if isinstance(record.args, tuple) else ():
            if not isinstance(argument, Exception):
                continue
            if (refusal := kafka_refusal(self._bootstrap, self._security, argument)) is not None:
                now = self._clock()
                began, latest = (now, now) if self._heard is None else self._heard[1:]
                self._heard = refusal, began if now - latest <= PAUSE_S else now, now

    @property
    def last_word(self) -> Refused | None:
        """The last refusal, once refusals have lasted for CERTAIN_S; None before."""
        if self._heard is None:
            return None
        refusal, began, latest = self._heard
        return refusal if latest - began >= CERTAIN_S else None

    async def run(self) -> None:
        """Listens until it is cancelled. Raises Refused."""
        client = logging.getLogger(CLIENT)
        client.addHandler(self)
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                if (refusal := self.last_word) is not None:
                    raise refusal
        finally:
            client.removeHandler(self)
