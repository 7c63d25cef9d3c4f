"""Hears that Kafka will not let a worker in any more, which was let in before: its password was changed, say, or the
brokers' certificate has expired. Connections that are open stay open; it is the next one that is refused.

aiokafka's clients take that for a broker that is away and try for ever. All that they tell of it is a line in the log,
whose arguments hold the error: so this is a handler of that log. tests/system/test_secured_servers.py fails when
upstream says it in another way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from stream.config.security import KafkaSecurity, Refused, kafka_refusal

CLIENT: Final = "aiokafka"  # the logger of its clients, those of consumers and of producers
CERTAIN_S: Final = 15.0  # of refusals: one broker of several may be behind in learning a new password
PAUSE_S: Final = 10.0  # without one, and they begin anew: clients try again after some 100 ms (`retry_backoff_ms`)
LOOK_S: Final = 1.0


class AuthMonitor(logging.Handler):
    """The refusals of this process's clients. They log on threads of their own; `run` looks at what was heard."""

    def __init__(self, bootstrap: str, security: KafkaSecurity, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._bootstrap = bootstrap
        self._security = security
        self._clock = clock
        self._heard: tuple[Refused, float, float] | None = None  # the last, when they began, when it came

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
        """What they say, once they have said it for long enough."""
        if self._heard is None:
            return None
        refusal, began, latest = self._heard
        return refusal if latest - began >= CERTAIN_S else None

    async def run(self) -> None:
        """Listen until cancelled. Raises Refused."""
        client = logging.getLogger(CLIENT)
        client.addHandler(self)
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                if (refusal := self.last_word) is not None:
                    raise refusal
        finally:
            client.removeHandler(self)
