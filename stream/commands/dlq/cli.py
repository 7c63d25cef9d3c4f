"""`pathcast dlq`: shows dead letters, and puts them back after a fix (`dead_letters` and `requeue` do the work)."""

from __future__ import annotations

import asyncio
import base64
import heapq
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from stream.commands.dlq import message_options
from stream.config.options import COMMON, Common, Json, quiet, utc, with_common
from stream.wire import Record
from stream.wire.escape import escaped, escaped_json

if TYPE_CHECKING:
    from stream.commands.dlq.dead_letters import Box, Letter
    from stream.commands.dlq.requeue import Plan  # Kafka clients take half a second to import, too long for --help

PREVIEW = 256  # bytes of a value that is not text, as hex
PLACES = 10  # the most places that the line about left-out letters names
HOUR_MS = 3_600_000
AGES = (("1 h", HOUR_MS), ("1 day", 24 * HOUR_MS), ("1 week", 7 * 24 * HOUR_MS), ("older", float("inf")))

app = typer.Typer(help="Dead letters: count them, look at one, put them back after a fix.", no_args_is_help=True)

Codes = Annotated[list[str] | None, typer.Option("--code", help="only this code; may be given several times")]


class Counted(NamedTuple):
    """The counts of all letters, and the newest letters."""

    counts: Counter[tuple[str, str, str]]  # by code, source topic and age
    newest: list[Letter]
    done: dict[str, dict[int, int]]  # by mark and partition, the offset below which letters were put back


@app.command("list")
@with_common
def list_(
    code: Codes = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="how many of the newest to show")] = 20,
    common: Common = COMMON,
    json: Json = False,
) -> None:
    """Count the dead letters by code, source topic and age, and show the newest.

    [bold]Examples[/]

      pathcast dlq list
      pathcast dlq list --code lat_out_of_range --limit 50
      pathcast dlq list --json
    """
    with quiet():
        with _known():
            counted = asyncio.run(_counted(_box(common), code or [], limit))
        if json:
            _echo_json(_listed(counted))
        elif counted.counts:
            _show_counts(counted)
        else:
            of = f" with code {' or '.join(code)}" if code else ""
            typer.echo(f"{common.topics.dead_letters} at {common.bootstrap} has no dead letters{of}", err=True)


@app.command()
@with_common
def show(
    where: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="of the dead letter topic")],
    common: Common = COMMON,
    json: Json = False,
) -> None:
    """Show one dead letter, at PARTITION:OFFSET of the dead letter topic: key, value and all headers.

    A value that is UTF-8 is shown as text, any other as hex (its first 256 bytes), or base64 with --json.

    [bold]Examples[/]

      pathcast dlq show 0:17
      pathcast dlq show 0:17 --json
    """
    number, _, offset = where.partition(":")
    if not (number.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"not PARTITION:OFFSET: {where!r}", param_hint="PARTITION:OFFSET")
    with quiet():
        record = asyncio.run(_record(_box(common), (int(number), int(offset))))
        if json:
            _echo_json(_fields(record))
        else:
            _show_record(record)


@app.command()
@with_common
def replay(
    code: Codes = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be put back")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    map_: Annotated[
        str | None,
        typer.Option("--map", metavar="NAME|FILE", help="instead: read messages of this preset or map once more"),
    ] = None,
    common: Common = COMMON,
    json: Json = False,
) -> None:
    """Put dead letters back into the topic and partition that they came from, as they came.

    For after a fix: of the worker, or of what its rules are. Each is put back once, whoever does it and however often,
    in Kafka transactions that hold both the records and the mark that they were put back. A record that is still bad
    becomes a new dead letter.

    Messages that `pathcast ingest` took were in no topic. With --map those of that map or preset are read again with
    it, as it is now, and their pings go to the pings topic; without it they are left out.

    [bold]Examples[/]

      pathcast dlq replay --code ts_in_future --dry-run
      pathcast dlq replay --code ts_in_future --code ts_too_old
      pathcast dlq replay --yes --json
      pathcast dlq replay --map ./mine.toml --code missing_field
    """
    if map_ is not None:
        known, topics = message_options.known(map_), common.topics
        with quiet(), _known():
            found = message_options.read_again(
                lambda: _box(common),
                topics,
                known,
                code or [],
                dry_run=dry_run,
                yes=yes,
            )
            message_options.say(found, known.name, dry_run=dry_run, as_json=json)
        return
    with quiet():
        with _known():
            made = asyncio.run(_planned(_box(common), code or []))
        if made.todo and not dry_run:
            if not yes:
                _say(made, "to put back", err=True)
                typer.confirm("put them back?", abort=True, err=True)
            made = asyncio.run(_put_back(_box(common), code or []))
        if json:
            _echo_json(
                {
                    "replayed": 0 if dry_run else len(made.todo),
                    "by_code": made.by_code,
                    "replayed_before": made.done,
                    "copies": made.copies,
                    "of_adapters": made.of_adapters,
                    "too_large": ["{}:{}".format(*letter.place) for letter in made.too_large],
                    "dry_run": dry_run,
                }
            )
        else:
            _say(made, "would be put back" if dry_run else "put back")


@contextmanager
def _known() -> Iterator[None]:
    """Turns an unknown code into an error of bad usage, with exit status 2."""
    from stream.commands.dlq.dead_letters import UnknownCode

    try:
        yield
    except UnknownCode as error:
        raise typer.BadParameter(str(error), param_hint="--code") from error


def _echo_json(found: Mapping[str, Any]) -> None:
    typer.echo(escaped_json(msgspec.json.encode(found)))


async def _box(common: Common) -> Box:
    from stream.commands.dlq.dead_letters import Box

    return await Box.open(common.bootstrap, common.topics.dead_letters, common.security)


async def _counted(opening: Awaitable[Box], codes: list[str], limit: int) -> Counted:
    from stream.commands.dlq.dead_letters import check_codes

    box, now_ms = await opening, time.time() * 1000
    counts: Counter[tuple[str, str, str]] = Counter()
    present, marks = set[str](), set[str]()
    newest: list[tuple[int, Any, Letter]] = []  # a heap with the oldest of them on top
    async with aclosing(box.letters()) as letters:
        async for letter in letters:
            present.add(letter.code)
            if codes and letter.code not in codes:
                continue
            age = next(name for name, limit_ms in AGES if now_ms - letter.found_ms <= limit_ms)
            counts[letter.code, letter.source.topic, age] += 1
            marks.add(letter.mark)
            heapq.heappush(newest, (letter.found_ms, letter.place, letter))
            if len(newest) > limit:
                heapq.heappop(newest)
    check_codes(codes, present, box.topic)
    done = await box.done(marks)
    return Counted(counts, [letter for _, _, letter in sorted(newest, reverse=True)], done)


async def _record(opening: Awaitable[Box], place: tuple[int, int]) -> Record:
    return await (await opening).record(place)


async def _planned(opening: Awaitable[Box], codes: list[str]) -> Plan:
    from stream.commands.dlq.requeue import plan

    return await plan(await opening, codes)


async def _put_back(opening: Awaitable[Box], codes: list[str]) -> Plan:
    from stream.commands.dlq.requeue import put_back

    return await put_back(await opening, codes)


def _say(made: Plan, what: str, *, err: bool = False) -> None:
    for code, count in made.by_code.items():
        typer.echo(f"{count:>10,}  {code}", err=err)
    beside = f"; {made.copies:,} copies" if made.copies else ""
    beside += f"; {made.omitted:,} whose letters hold no record" if made.omitted else ""
    typer.echo(f"{len(made.todo):,} {what}; {made.done:,} were before{beside}", err=err)
    if made.of_adapters:
        each = ", ".join(f"{escaped(name)} {count:,}" for name, count in made.of_adapters.most_common())
        typer.echo(
            f"left out, messages that `pathcast ingest` took from another system ({each}): they were in no topic, and "
            "the pings topic takes pings. With --map NAME or FILE, those of that preset or map are read again; "
            "pathcast dlq show PARTITION:OFFSET has each, to be sent to its adapter again",
            err=err,
        )
    if made.too_large:
        some = ["{}:{} ({:,} bytes)".format(*letter.place, letter.batch_bytes) for letter in made.too_large[:PLACES]]
        more = f" and {rest:,} more" if (rest := len(made.too_large) - len(some)) else ""
        typer.echo(f"left out, larger than max.message.bytes of their topic: {', '.join(some)}{more}", err=err)


def _listed(counted: Counted) -> dict[str, Any]:
    from stream.commands.dlq.dead_letters import is_done

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for (code, topic, age), count in sorted(counted.counts.items()):
        row = rows.setdefault((code, topic), {"code": code, "topic": topic, "count": 0, "by_age": {}})
        row["count"] += count
        row["by_age"][age] = count
    letters = [
        {
            "place": "{}:{}".format(*letter.place),
            "found_ms": letter.found_ms,
            "code": letter.code,
            "message": letter.message,
            "source": letter.source._asdict(),
            "key": None if letter.key is None else letter.key.decode(errors="replace"),
            "adapter": letter.adapter,
            "replayed": is_done(letter, counted.done),
        }
        for letter in counted.newest
    ]
    return {"counts": sorted(rows.values(), key=lambda row: -row["count"]), "newest": letters}


def _show_counts(counted: Counted) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed, console = _listed(counted), Console()
    table = Table("code", "from", "letters", *(name for name, _ in AGES), box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in listed["counts"]:
        ages = ("" if (n := row["by_age"].get(name)) is None else f"{n:,}" for name, _ in AGES)
        table.add_row(row["code"], Text(escaped(row["topic"])), f"{row['count']:,}", *ages)
    console.print(table)
    for letter in listed["newest"]:
        parts = (
            f"{utc(letter['found_ms'])}  {letter['place']:<10}",
            f"{'-' if letter['key'] is None else letter['key']:<12}",
            f"{letter['code']}: {letter['message']}",
            *(["(put back)"] if letter["replayed"] else []),
        )
        console.print(escaped("  ".join(parts)), markup=False, highlight=False, soft_wrap=True)


def _show_record(record: Record) -> None:
    typer.echo(f"place    {record.partition}:{record.offset}, {utc(record.timestamp_ms)}")
    typer.echo(f"key      {escaped(_shown(record.key))}")
    for name, value in record.headers:
        typer.echo(f"header   {escaped(name)}: {escaped(_shown(value))}")
    typer.echo(f"value    {'' if record.value is None else f'{len(record.value):,} bytes'}")
    for line in _shown(record.value).split("\n"):  # indented, so that no line of the value looks like one of ours
        typer.echo(f"  {escaped(line)}")


def _fields(record: Record) -> dict[str, Any]:
    headers = [{"name": name, **_named("value", value)} for name, value in record.headers]
    place = {"place": f"{record.partition}:{record.offset}", "timestamp_ms": record.timestamp_ms}
    return {**place, **_named("key", record.key), **_named("value", record.value), "headers": headers}


def _named(name: str, raw: bytes | None) -> dict[str, str | None]:
    """Returns a JSON field: text if the bytes are UTF-8, otherwise base64 under another name."""
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw or b"").decode()}


def _shown(raw: bytes | None) -> str:
    if raw is None:
        return "none"
    try:
        return raw.decode()
    except UnicodeDecodeError:
        more = f" ... and {len(raw) - PREVIEW:,} bytes more" if len(raw) > PREVIEW else ""
        return f"hex {raw[:PREVIEW].hex(' ')}{more}"
