"""`pathcast tail`: shows the records of an output topic as they come."""

from __future__ import annotations

import sys
from contextlib import closing
from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from stream.config.options import DEFAULT_BOOTSTRAP, DEFAULT_PREFIX, Bootstrap, Json, Prefix, quiet, secured
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.wire import Topics
from stream.wire.escape import escaped_json

HELP = """Show forecasts, gap fills or dead letters as they come.

[bold]Examples[/]

  pathcast tail forecasts
  pathcast tail forecasts --entity 5007 --limit 10
  pathcast tail gapfills --from earliest --no-follow --json > gapfills.ndjson
  pathcast tail dead-letters --from earliest
"""


class Output(StrEnum):
    FORECASTS = "forecasts"
    GAPFILLS = "gapfills"
    DEAD_LETTERS = "dead-letters"


class Start(StrEnum):
    EARLIEST = "earliest"
    LATEST = "latest"


@secured
def tail(
    what: Annotated[Output, typer.Argument(help="which output")],
    entity: Annotated[str | None, typer.Option("--entity", help="only this entity's records")] = None,
    start: Annotated[Start, typer.Option("--from", help="the oldest record kept, or only new ones")] = Start.LATEST,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="stop after so many records")] = None,
    wait: Annotated[
        bool, typer.Option("--follow/--no-follow", help="wait for more, or stop at the present end")
    ] = True,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    security: KafkaSecurity = PLAIN_KAFKA,
    json: Json = False,
) -> None:
    from stream.commands.tail import dead_letter_json, dead_letter_line, forecast_line, gapfill_line
    from stream.kafka.following import follow

    names = Topics.of(prefix)
    topic = {
        Output.FORECASTS: names.forecasts,
        Output.GAPFILLS: names.gapfills,
        Output.DEAD_LETTERS: names.dead_letters,
    }[what]
    key = None if entity is None else entity.encode()
    all_records = follow(bootstrap, topic, security, earliest=start is Start.EARLIEST, stop_at_end=not wait)
    with quiet(), closing(all_records) as records:
        matching = (record for record in records if key is None or record.key == key)
        for record in islice(matching, limit):
            if what is Output.DEAD_LETTERS:
                line = dead_letter_json(record) if json else dead_letter_line(record).encode()
            elif json:
                line = escaped_json(record.value)  # canonical JSON already
            else:
                line = (forecast_line if what is Output.FORECASTS else gapfill_line)(record.value).encode()
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()


tail.__doc__ = HELP
