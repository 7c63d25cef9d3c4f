"""`pathcast tail`: shows the records of an output topic as they come."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from stream.config.options import COMMON, Common, Follow, From, Json, Limit, OnlyEntity, Start, with_common
from stream.wire import Record
from stream.wire.escape import escaped_json


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
    """Show forecasts, gap fills, arrivals or dead letters as they come.

    [bold]Examples[/]

      pathcast tail forecasts
      pathcast tail forecasts --entity 5007 --limit 10
      pathcast tail gapfills --from earliest --no-follow --json > gapfills.ndjson
      pathcast tail arrivals --entity 12
      pathcast tail dead-letters --from earliest
    """
    from stream.commands.tail import dead_letter_json, dead_letter_line, forecast_line, gapfill_line
    from stream.kafka.following import show
    from stream.kafka.reading import INPUT_ISOLATION

    names = common.topics
    topic = {
        Output.FORECASTS: names.forecasts,
        Output.GAPFILLS: names.gapfills,
        Output.ARRIVALS: names.arrivals,
        Output.DEAD_LETTERS: names.dead_letters,
    }[what]

    def line(record: Record) -> bytes:
        if what is Output.DEAD_LETTERS:
            return dead_letter_json(record) if json else dead_letter_line(record).encode()
        if json:
            return escaped_json(record.value or b"")  # canonical JSON already
        if what is Output.ARRIVALS:
            from stream.services.arrivals.setting import line as arrival_line

            return arrival_line(record.value or b"").encode()
        return (forecast_line if what is Output.FORECASTS else gapfill_line)(record.value or b"").encode()

    show(
        *(common.bootstrap, topic, line, common.security),
        entity=entity,
        limit=limit,
        earliest=start is Start.EARLIEST,
        stop_at_end=not wait,
        isolation=INPUT_ISOLATION if what is Output.ARRIVALS else "read_uncommitted",
    )
