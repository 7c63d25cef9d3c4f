"""Shows the records of a topic as they come, for commands such as `pathcast tail`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import typer

from stream.config.options import quiet
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.kafka.reading import Isolation, follow
from stream.wire import Record
from stream.wire.escape import escaped


def show(
    bootstrap: str,
    topic: str,
    line: Callable[[Record], bytes],
    security: KafkaSecurity = PLAIN_KAFKA,
    *,
    entity: str | None,
    limit: int | None,
    earliest: bool,
    stop_at_end: bool,
    isolation: Isolation = "read_uncommitted",
) -> None:
    """Prints a line for each record of this entity (None: of all), `limit` of them at most.

    If there was none to print, it says so on stderr: silence could be a mistake of ours, too. Raises as `follow`.
    """
    records = follow(bootstrap, topic, security, earliest=earliest, stop_at_end=stop_at_end, isolation=isolation)
    with quiet():
        if not (earliest or stop_at_end) and sys.stderr.isatty():  # where nothing comes, it is silent for long
            typer.echo(f"waiting for new records of {topic}; --from earliest shows older ones, too", err=True)
        if asyncio.run(_print(records, line, None if entity is None else entity.encode(), limit)):
            return
        of = "" if entity is None else f" of entity {escaped(entity)}"
        if earliest:
            typer.echo(f"{topic} at {bootstrap} has no records{of}", err=True)
        else:
            hint = "--from earliest shows those that are there"
            typer.echo(f"no records{of} came to {topic} at {bootstrap} just now: {hint}", err=True)


async def _print(
    records: AsyncGenerator[Record], line: Callable[[Record], bytes], key: bytes | None, limit: int | None
) -> int:
    printed = 0
    async with aclosing(records):
        async for record in records:
            if key is None or record.key == key:
                sys.stdout.buffer.write(line(record) + b"\n")
                sys.stdout.buffer.flush()
                printed += 1
                if printed == limit:
                    break
    return printed
