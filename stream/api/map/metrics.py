"""The metrics of `pathcast map`: the names of what is read at a scrape."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "pathcast_map_"
STREAM: Final = "events"
SIZES: Final = {
    "entities": "Entities in memory.",
    "fills": "Entities whose gap fills are in memory.",
    "lag_records": "Records in the logs that were not read yet.",
    "caught_up": "1: what was in the logs at the start is read.",
    "connections": "Open connections.",
}
COUNTS: Final = {
    "records": "Records that were read.",
    "records_refused": "Records that are none, or have numbers that cannot be drawn.",
    "kafka_failures": "Reads of the topics that failed.",
    "entities_crowded_out": "Entities that were left out because there were too many.",
    "connections_closed": "Connections that were closed because they sent nothing, or were too many.",
}
