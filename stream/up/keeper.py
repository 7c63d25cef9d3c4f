"""Keeps one part running: starts it, waits for its end, waits a little, and starts it again, until it is told to stop.

ends by itself             -> started again after 1 s, 2 s, 4 s ... a minute (`Past`)
ends three times in a row  -> reported with the last lines of its log; it is tried on, and the others go on
ran for a minute           -> what was before is forgotten
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stream.up.child import Running
from stream.up.logs import tail
from stream.worker.process_pool import NO_HANDLER_YET, how

FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 60.0
STEADY_S: Final = 60.0  # a part that ran for so long was sound: it ended for a new reason
TROUBLED: Final = 3  # ends in a row; one may be an accident, such as a lack of memory for a moment


@dataclass(frozen=True)
class Past:
    """The ends of a part's processes so far. It is pure: durations are arguments."""

    ends: int = 0  # in a row: all but the first came before STEADY_S

    def after(self, ran_s: float) -> Past:
        return Past(1 if ran_s >= STEADY_S else self.ends + 1)

    @property
    def delay_s(self) -> float:
        """The delay before the next start."""
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self.ends - 1, 30))

    @property
    def troubled(self) -> bool:
        return self.ends >= TROUBLED


@dataclass(frozen=True)
class Status:
    """What a part does now, for people."""

    name: str
    doing: str = "not started"
    pid: int | None = None
    since_s: float = 0.0  # of the wall clock; when it began that
    restarts: int = 0


class Keeper:
    """Keeps one part running."""

    def __init__(
        self, name: str, start: Callable[[], Awaitable[Running]], log: Path, say: Callable[[str], None]
    ) -> None:
        """`start` starts a process, and raises OSError or RuntimeError where that fails. `say` shows people a line."""
        self.status = Status(name)
        self._start, self._log, self._say = start, log, say
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.stopped_well = True

    def begin(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends the process, and returns when it has ended."""
        self._stop.set()
        if self._task is not None:
            await self._task
        self._now("stopped")
        self._say("has stopped")

    async def _keep(self) -> None:
        past = Past()
        while not self._stop.is_set():
            began_s = time.monotonic()
            ending = await self._live()
            if self._stop.is_set():
                return
            ran_s = time.monotonic() - began_s
            past = past.after(ran_s)
            self._report(past, f"{ending} after {ran_s:.0f} s")
            self._now(f"waits {past.delay_s:.0f} s after {ending}" if not past.troubled else f"fails: {ending}")
            with suppress(TimeoutError):
                async with asyncio.timeout(past.delay_s):
                    await self._stop.wait()
            self.status = replace(self.status, restarts=self.status.restarts + 1)

    async def _live(self) -> str:
        """Runs one process, and returns how it ended."""
        try:
            process = await self._start()
        except (OSError, RuntimeError) as error:
            return f"no start ({error})"
        self._now("runs", process.pid)
        self._say(f"is process {process.pid}")
        ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(self._stop.wait())
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            self._now("stops", process.pid)
            ended.cancel()
            status = await process.stop()
            if status not in (0, *NO_HANDLER_YET, 130, 143):
                self.stopped_well = False
                self._say(f"it did not stop well, but with {how(status)}")
            return how(status)
        return how(ended.result())

    def _report(self, past: Past, ending: str) -> None:
        again = f"it is started again in {past.delay_s:.0f} s"
        if past.ends != TROUBLED:
            self._say(f"ended with {ending}; {again}")
            return
        self._say(f"ended {past.ends} times in a row, the last time with {ending}; {again}")
        self._say(f"its last words, of {self._log}:")
        for line in tail(self._log) or ["none"]:
            self._say(f"    {line}")

    def _now(self, doing: str, pid: int | None = None) -> None:
        self.status = replace(self.status, doing=doing, pid=pid, since_s=time.time())
