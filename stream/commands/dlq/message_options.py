"""`pathcast dlq replay --map`: what it asks and says; `reread` does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

import msgspec
import typer

from stream.wire import Topics
from stream.wire.escape import escaped

if TYPE_CHECKING:
    from stream.adapters.live.presets import Preset
    from stream.commands.dlq.dead_letters import Box
    from stream.commands.dlq.reread import Reread


def known(given: str) -> Preset:
    """Returns the preset or map. Raises BadParameter."""
    from stream.adapters.live.presets import find_preset as find

    try:
        return find(given)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None


def read_again(
    opening: Callable[[], Awaitable[Box]],
    topics: Topics,
    known: Preset,
    codes: Collection[str],
    *,
    dry_run: bool,
    yes: bool,
) -> Reread:
    """Reads the messages again, once that is confirmed. Raises as `reread.reread`."""
    from stream.commands.dlq.reread import reread

    async def work(*, dry_run: bool) -> Reread:
        return await reread(await opening(), topics, known, codes, dry_run=dry_run)

    if not yes or dry_run:
        found = asyncio.run(work(dry_run=True))
        if dry_run or not found.messages:
            return found
        typer.echo(_in_words(found, known.name, "would hold"), err=True)
        typer.confirm("read them again?", abort=True, err=True)
    return asyncio.run(work(dry_run=False))


def say(found: Reread, name: str, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        shown = {
            "adapter": name,
            "messages": found.messages,
            "pings": found.pings,
            "rejects": found.rejects,
            "replayed_before": found.done,
            "copies": found.copies,
            "omitted": found.omitted,
            "dry_run": dry_run,
        }
        typer.echo(msgspec.json.encode(shown))
    else:
        typer.echo(_in_words(found, name, "would hold" if dry_run else "held"))


def _in_words(found: Reread, name: str, verb: str) -> str:
    rejects = ", ".join(f"{code} {count:,}" for code, count in found.rejects.most_common()) or "none"
    beside = f"; {found.copies:,} more letters of the same" if found.copies else ""
    beside += f"; {found.omitted:,} whose letters hold no message" if found.omitted else ""
    return (
        f"{found.messages:,} messages of {escaped(name)} {verb} {found.pings:,} pings; new dead letters: {rejects}; "
        f"{found.done:,} were read again before{beside}"
    )
