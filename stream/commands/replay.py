"""`pathcast replay`: runs the worker's engine over a file, without a broker, and writes NDJSON."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.console import Console

from stream.adapters.options import Columns, MapOfLines, Timezone, recording_of
from stream.commands.files.options import print_json
from stream.commands.files.outputs import STD, to_stdout
from stream.commands.files.showing import Steps
from stream.config.options import DEFAULT_HORIZONS, Horizons, Weights, horizons_of
from stream.config.settings import UNLIMITED, Settings
from stream.config.times import seconds
from stream.config.wording import counted

if TYPE_CHECKING:  # importing numba takes a second, for which --help and a wrong file name should not wait
    from stream.adapters.files import RecordedRow, RecordedRows
    from stream.atlas.replaying import Growing
    from stream.engine.engine import Engine
    from stream.kafka.records.record_columns import Records
    from stream.wire import Outgoing

BATCH_ROWS = 16_384  # many more than a worker's: a row of a full step is cheapest, and nobody waits for an answer
EXAMPLES_SHOWN = 5  # the most rejects that are shown with their reasons, one per code


def replay(
    file: Annotated[
        str, typer.Argument(metavar="FILE|FORMAT:PATH|-", help="recorded pings; - is NDJSON on standard input")
    ],
    *,
    columns: Columns = None,
    timezone: Timezone = None,
    map_: MapOfLines = None,
    out: Annotated[str, typer.Option("--out", help="where the forecasts go (NDJSON), or - for standard output")],
    weights: Weights = Settings.weights,
    horizons: Horizons = DEFAULT_HORIZONS,
    atlas: Annotated[
        str | None,
        typer.Option("--atlas", metavar="TIME", help="ask an atlas of these pings, a new one each 1h, 30m, ..."),
    ] = None,
    min_entities: Annotated[
        int | None, typer.Option("--min-entities", min=1, max=16, help="for --atlas, as of train atlas; default: 3")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON (to stderr if OUT is -)")] = False,
) -> None:
    """Forecast every ping of a recorded file, with the worker's own engine and no broker.

    FILE is Parquet, CSV (also .csv.gz), NDJSON (.ndjson, .jsonl) or GPX, - for NDJSON on standard input, or what
    pathcast train takes: a folder, or FORMAT:PATH with geolife, tdrive, porto, ais, gpx or gtfs. Tables need the
    columns entity_id, ts or t (milliseconds UTC), lat and lon, or --columns says what they are called; other fields of
    a ping are used if they are there. With --map, lines of NDJSON may be messages of another system. Pings are taken in
    the order of their times. OUT gets one line of JSON per accepted ping: the forecast, with anchor, next and horizons.

    With --atlas 1h, forecasts also use an atlas: where the file's vehicles went earlier that came the same way. At each
    full hour of the pings' own times a new version begins, made of the pings before that hour. Each forecast names its
    version.

    [bold]Examples[/]

      pathcast replay buses.parquet --out forecasts.ndjson
      pathcast replay track.gpx --out - --horizons 30,60 | head -n 1
      pathcast replay fleet.csv --columns t:s=timestamp,entity_id=vehicle --out forecasts.ndjson
      pathcast replay pings.csv --out forecasts.ndjson --weights ./my-weights --json
      pathcast replay buses.parquet --out forecasts.ndjson --atlas 1h
    """
    settings = settings_of(weights, horizons)
    every_ms = None if atlas is None else 1000 * seconds(atlas, "--atlas")
    if min_entities is not None and every_ms is None:
        raise typer.BadParameter("is for --atlas", param_hint="--min-entities")
    console = Console(stderr=True)
    found = recording_of(file, columns, map_, timezone)
    rows = found.pings_in_order()
    if rows.left_out:
        console.print(f"left out: {rows.left_out}", style="yellow", markup=False, soft_wrap=True)
    engine = engine_of(settings)
    growing = None if every_ms is None else _grow_atlas(every_ms, min_entities, settings.weights)
    summary = None
    with _open_output(out, found.path) as sink:
        summary = asyncio.run(_replay_rows(engine, rows, growing, sink, settings, console))
        if summary["rejects"] and not summary["forecasts"]:
            raise found.without_pings(summary["pings"], *next(iter(summary["reject_examples"].items())))
    if summary is None:
        return
    if as_json:
        print_json(summary, out)
    else:
        _print_summary(summary, console)


def settings_of(weights: str, horizons: str) -> Settings:
    """Returns the settings of an engine without a store. Raises typer.BadParameter for horizons that are no numbers."""
    try:
        # There is no store.
        return Settings(weights=weights, horizons_s=horizons_of(horizons), max_stored_entities=UNLIMITED)
    except ValueError as error:
        raise typer.BadParameter(f"{horizons!r}: {error}", param_hint="--horizons") from None


def engine_of(settings: Settings) -> Engine:
    """Returns an engine without a store and with a clock that stands still."""
    from model.api import Predictor
    from stream.engine.engine import Engine
    from stream.store.base import MemoryStore

    # The clock stands still: latencies of a replay mean nothing, and the same file gives the same bytes.
    return Engine(Predictor.load(settings.weights), MemoryStore(), settings, clock_ms=lambda: 0.0)


def _grow_atlas(every_ms: int, min_entities: int | None, weights: str) -> Growing:
    from model.api import Predictor
    from stream.atlas.building import Rules
    from stream.atlas.replaying import Growing

    rules = Rules() if min_entities is None else Rules(min_entities=min_entities)
    return Growing(every_ms, rules, Predictor.load(weights))  # its own: the engine's holds the states of entities


@contextmanager
def _open_output(out: str, file: str | Path) -> Iterator[BinaryIO]:
    if out == STD:
        with to_stdout() as stdout:
            yield stdout
        return
    if Path(out).exists() and Path(file).exists() and Path(out).samefile(file):
        raise ValueError(f"--out {out} is the input itself")
    try:
        with Path(out).open("wb") as sink:
            yield sink
    except ValueError:
        if Path(out).is_file() and not Path(out).stat().st_size:
            Path(out).unlink()  # an empty file would pass for an answer
        raise


async def _replay_rows(
    engine: Engine, rows: RecordedRows, growing: Growing | None, sink: BinaryIO, settings: Settings, console: Console
) -> dict[str, Any]:
    """Passes all rows through the engine, writes the forecasts, and returns the summary."""
    from stream.engine.assignment import VersionChoice

    published_ms = int(time.time() * 1000)
    codes: Counter[str] = Counter()
    examples: dict[str, str] = {}
    offset, started_s = 0, time.perf_counter()
    batches = _batches(rows) if growing is None else growing.batches(rows, BATCH_ROWS)
    with Steps(console).step("replaying", len(rows)) as progress:
        for batch in batches:
            records = records_of(batch, offset, settings.topics.pings, published_ms)
            choice = VersionChoice(None if growing is None else growing.choice)
            answers = await engine.process(records, started_ms=0.0, fetched_ms=0.0, choice=choice)
            if growing is not None:
                growing.add(records)
            _write(answers, settings, sink, codes, examples)
            offset += len(batch)
            progress(offset)
    elapsed_s = time.perf_counter() - started_s
    grown = {} if growing is None else {"atlases": growing.versions}
    return {**_summary(engine, offset, elapsed_s, codes, examples), **grown}


def records_of(rows: Sequence[RecordedRow], first: int, topic: str, published_ms: int) -> Records:
    """Returns the rows as records of the topic from the offset `first` on.

    All were published at one time, now: a recording cannot have times after it.
    """
    from stream.kafka.records.record_columns import Records
    from stream.wire import Record

    rows_from = enumerate(rows, first)
    return Records.of([Record(topic, 0, offset, published_ms, row.key, row.value) for offset, row in rows_from])


def _batches(rows: Iterable[RecordedRow]) -> Iterator[list[RecordedRow]]:
    coming = iter(rows)
    return iter(lambda: list(islice(coming, BATCH_ROWS)), [])


def _write(
    answers: Iterable[Outgoing], settings: Settings, sink: BinaryIO, codes: Counter[str], examples: dict[str, str]
) -> None:
    from stream.wire import context_of

    for answer in answers:
        if answer.topic == settings.topics.forecasts:
            sink.write((answer.value or b"") + b"\n")
        elif answer.topic == settings.topics.dead_letters:
            context = context_of(answer.headers)
            codes[context["code"]] += 1
            examples.setdefault(context["code"], f"record {answer.src.offset}: {context['message']}")


def _summary(
    engine: Engine, records: int, elapsed_s: float, codes: Counter[str], examples: dict[str, str]
) -> dict[str, Any]:
    counted = list(engine.counts.values())
    return {
        "pings": records,
        "forecasts": sum(counts.forecasts for counts in counted),
        "gapfills": sum(counts.gap_fills for counts in counted),
        "duplicates": sum(counts.duplicates for counts in counted),
        "rejects": sum(codes.values()),
        "rejects_by_code": dict(codes.most_common()),
        "reject_examples": examples,
        "seconds": round(elapsed_s, 3),
        "pings_per_s": round(records / elapsed_s, 1) if records else 0.0,
    }


def _print_summary(summary: dict[str, Any], console: Console) -> None:
    for code, example in islice(summary["reject_examples"].items(), EXAMPLES_SHOWN):
        console.print(
            f"rejected {summary['rejects_by_code'][code]} {code}: {example}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    grown = f", {counted(summary['atlases'], 'version')} of the atlas" if "atlases" in summary else ""
    counts = ", ".join(counted(summary[f"{one}s"], one) for one in ("ping", "forecast", "reject", "duplicate"))
    console.print(
        f"{counts}, {counted(summary['gapfills'], 'gap fill')}{grown}; {summary['pings_per_s']:,.0f}/s",
        highlight=False,
        soft_wrap=True,
    )
