"""`pathcast tail`: shows the records of an output topic as they come."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from stream.config.options import COMMON, Common, Follow, From, Json, Limit, OnlyEntity, Start, with_common
from stream.wire.escape import escaped_json

HELP = """Show forecasts, gap fills, arrivals or dead letters as they come.

[bold]Examples[/]

  pathcast tail forecasts
  pathcast tail forecasts --entity 5007 --limit 10
  pathcast tail gapfills --from earliest --no-follow --json > gapfills.ndjson
  pathcast tail arrivals --entity 12
  pathcast tail dead-letters --from earliest
"""


class Output(StrEnum):
    FORECASTS = "forecasts"
    GAPFILLS = "gapfills"
    ARRIVALS = "arrivals"
    DEAD_LETTERS = "dead-letters"


@with_common
def tail(
    what: Annotated[Output, typer.Argument(help="which records to show")],
    entity: OnlyEntity = None,
    start: From = Start.LATEST,
    limit: Limit = None,
    wait: Follow = True,
    common: Common = COMMON,
    json: Json = False,
) -> None:
    from stream.commands.tail import dead_letter_json, dead_letter_line, forecast_line, gapfill_line
    from stream.kafka.following import follow, nothing_in, show

    names = common.topics
    topic = {
        Output.FORECASTS: names.forecasts,
        Output.GAPFILLS: names.gapfills,
        Output.ARRIVALS: names.arrivals,
        Output.DEAD_LETTERS: names.dead_letters,
    }[what]

    def line(record: Any) -> bytes:
        if what is Output.DEAD_LETTERS:
            return dead_letter_json(record) if json else dead_letter_line(record).encode()
        if json:
            return escaped_json(record.value)  # canonical JSON already
        if what is Output.ARRIVALS:
            from stream.services.arrivals.setting import line as arrival_line

            return arrival_line(record.value).encode()
        return (forecast_line if what is Output.FORECASTS else gapfill_line)(record.value).encode()

    earliest, committed = start is Start.EARLIEST, what is Output.ARRIVALS
    where = (common.bootstrap, topic, common.security)
    records = follow(*where, earliest=earliest, stop_at_end=not wait, committed=committed)
    nothing = nothing_in(topic, common.bootstrap, entity=entity, earliest=earliest)
    show(records, line, entity=entity, limit=limit, nothing=nothing)


tail.__doc__ = HELP
