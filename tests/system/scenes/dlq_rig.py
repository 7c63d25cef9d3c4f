"""`pathcast dlq` in the test's own process, and a replay that dies on its way. Tests import this; it tests nothing
itself."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from stream.commands.dlq import dead_letters, requeue
from stream.commands.dlq.cli import app
from stream.wire import Record, Topics


def run(kafka: str, topics: Topics, *arguments: object, stdin: str = "") -> Any:
    options = ["--bootstrap", kafka, "--prefix", topics.prefix]
    ran = CliRunner().invoke(app, [*map(str, arguments), *options], input=stdin)
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran


def told(kafka: str, topics: Topics, *arguments: object) -> Any:
    ran = run(kafka, topics, *arguments, "--json")
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


class Killed(BaseException):
    """As kill -9 would: nothing catches it."""


def mortal(die_after: int) -> type:
    """The producer of a replay that dies, for `requeue.AIOKafkaProducer`."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == die_after:
            raise Killed

    class Mortal(requeue.AIOKafkaProducer):  # type: ignore[misc]
        """Dies before the nth of its calls, and is not there any more to abort."""

        async def send(self, *args: Any, **more: Any) -> Any:
            step()
            return await super().send(*args, **more)

        async def send_offsets_to_transaction(self, *args: Any) -> None:
            step()
            await super().send_offsets_to_transaction(*args)

        async def abort_transaction(self) -> None:
            await self.client.close()

        async def stop(self) -> None:
            if steps < die_after:
                await super().stop()

    return Mortal


async def committed(kafka: str, topic: str) -> list[Record]:
    """The records of a topic, without those of transactions that were aborted."""
    box = await dead_letters.Box.open(kafka, topic)
    return [record for number, bounds in box.bounds.items() async for record in box._records((topic, number), *bounds)]
