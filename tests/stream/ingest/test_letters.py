"""How many dead letters a message becomes."""

from __future__ import annotations

from stream.adapters.live.parsed import Skip, reject
from stream.ingest.publishing.sink import merge_rejects
from stream.wire import Ping

PING = Ping(entity_id="a", ts=1_764_489_600_000, lat=1.0, lon=2.0)


def test_a_message_becomes_one_letter_for_each_code_and_all_of_its_pings() -> None:
    bad = [reject("null_island", f"number {n}") for n in range(3_000)]
    found = list(merge_rejects([*bad[:2], PING, Skip("lwt"), reject("missing_field", "lat absent"), PING, *bad[2:]]))
    assert found == [
        reject("null_island", "number 0; and 2999 more null_island in the message"),
        PING,
        reject("missing_field", "lat absent"),
        PING,
    ]
