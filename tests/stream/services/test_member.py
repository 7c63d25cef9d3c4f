"""A member of a service's group, without brokers: what it does where one of them never answers."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from stream.kafka import membership
from stream.services import member
from stream.services.member import Member
from stream.services.plan import Plan


class Silent:
    """A publisher whose coordinator never answers."""

    closed: ClassVar[list[str]] = []

    def __init__(self, bootstrap: str, name: str, **_: Any) -> None:
        self._name = name

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed.append(self._name)


async def test_a_coordinator_that_never_answers_holds_up_no_other_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted as a failure, which the alerts know, and tried again."""

    async def confirm(coordinator: Any, generation: int) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(member, "STOP_S", 0.05)
    monkeypatch.setattr(member, "Publisher", Silent)
    monkeypatch.setattr(membership, "confirm", confirm)
    one = Member(Plan("latest", ("forecasts",), "g-latest"), begin=lambda taken: pytest.fail("nothing was taken over"))
    monkeypatch.setattr(one, "_assigned", lambda: {0, 1})
    Silent.closed.clear()
    async with asyncio.timeout(60):
        await one._take_over()
    assert one.failures == 2
    assert Silent.closed == ["g-latest|forecasts|0", "g-latest|forecasts|1"]
