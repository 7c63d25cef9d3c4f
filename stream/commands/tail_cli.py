"""`pathcast tail`: shows the records of an output topic as they come."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from stream.config.options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_PREFIX,
    Bootstrap,
    Follow,
    From,
    Json,
    Limit,
    OnlyEntity,
    Prefix,
    Start,
    secured,
)
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.wire import Record, Topics
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


@secured
def tail(
    what: Annotated[Output, typer.Argument(help="which records to show")],
    entity: OnlyEntity = None,
    start: From = Start.LATEST,
    limit: Limit = None,
    wait: Follow = True,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    security: KafkaSecurity = PLAIN_KAFKA,
    json: Json = False,
) -> None:
    from stream.commands.tail import dead_letter_json, dead_letter_line, forecast_line, gapfill_line
    from stream.kafka.following import show

    names = Topics.of(prefix)
    topic = {
        Output.FORECASTS: names.forecasts,
        Output.GAPFILLS: names.gapfills,
        Output.DEAD_LETTERS: names.dead_letters,
    }[what]

    def line(record: Record) -> bytes:
        if what is Output.DEAD_LETTERS:
            return dead_letter_json(record) if json else dead_letter_line(record).encode()
        if json:
            return escaped_json(record.value or b"")  # canonical JSON already
        return (forecast_line if what is Output.FORECASTS else gapfill_line)(record.value or b"").encode()

    earliest = start is Start.EARLIEST
    show(bootstrap, topic, line, security, entity=entity, limit=limit, earliest=earliest, stop_at_end=not wait)


tail.__doc__ = HELP
