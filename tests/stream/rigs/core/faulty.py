"""A predictor that raises for some pings, and a worker that goes on. Tests import this; it tests nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from engine_rig import Rig, ping
from msgspec.structs import replace

from model.api import Predictor
from stream.wire import Outgoing, Ping

POISON_MPS = 66.6
_POISON_CMS = 6_660


def poison(entity_id: str, seconds: float, **more: Any) -> Ping:
    return replace(ping(entity_id, seconds, **more), speed_mps=POISON_MPS)


class Raised(RuntimeError):
    """What a faulty predictor raises."""


class FaultyFold(Predictor):
    """Raises after it has folded all that it was given, so that whoever goes on with these states has folded twice."""

    def answer(self, slots: Any, fixes: Any, counts: Any, horizons_s: Any, guide: Any = None) -> Any:
        said = super().answer(slots, fixes, counts, horizons_s, guide)
        _check(fixes)
        return said

    def catch_up(self, slots: Any, fixes: Any, counts: Any) -> None:
        super().catch_up(slots, fixes, counts)
        _check(fixes)

    def rebuild(self, slots: Any, windows: Sequence[Any]) -> None:
        super().rebuild(slots, windows)
        _check(*windows)


class FaultyForecast(Predictor):
    """Folds everything, and has nothing to say after a certain ping."""

    def forecast(self, slots: Any, horizons_s: Any, guide: Any = None) -> Any:
        _check(self.last(slots))
        return super().forecast(slots, horizons_s, guide)

    def answer(self, slots: Any, fixes: Any, counts: Any, horizons_s: Any, guide: Any = None) -> Any:
        said = super().answer(slots, fixes, counts, horizons_s, guide)
        _check(fixes)
        return said


class FaultyFill(Predictor):
    """Cannot fill a gap that ends with a certain ping."""

    def fill_at(self, moment: Any, asked: Any, guide: Any = None) -> Any:
        _check(*(gap.after for gap in asked))
        return super().fill_at(moment, asked, guide)


def _check(*many: Any) -> None:
    for fixes in many:
        if (np.asarray(fixes)["speed_cms"] == _POISON_CMS).any():
            raise Raised(f"no step from {POISON_MPS} m/s")


class Worker(Rig):
    """What raises is tried once more by an engine that knows only the store, carefully: as delivery does it.

    `prompt`: as delivery does it, too, there is a checkpoint then.
    """

    prompt = False

    async def batch(self, *items: Ping | bytes) -> list[Outgoing]:
        start = len(self.log)
        records = [self.record(item) for item in items]
        answers = None
        with suppress(Raised):
            answers = list(await self.engine.process(records, started_ms=20.0, fetched_ms=10.0))
        if answers is None:
            await self.take_over(start)
            answers = list(await self.engine.process(records, started_ms=20.0, fetched_ms=10.0, careful=True))
            if self.prompt:
                await self.checkpoint()
        self.out += answers
        return answers

    async def take_over(self, committed: int) -> None:
        """Reload, and replay silently what is in no checkpoint."""
        self.engine.drop(self.partition)
        self.epoch, start = await self.store.claim(self.partition)
        replayed = self.log[start or 0 : committed]
        assert not await self.engine.process(replayed, started_ms=0, fetched_ms=0, silent=True, careful=True)

    async def restart(self, make: Callable[[], Predictor] | None = None) -> None:
        """Another process, of another model if one is given, takes over at the end of the log."""
        self.make = make or self.make
        self.engine = self.started()
        await self.take_over(len(self.log))
