"""Peer (b): runs Quix Streams with the same weights over the full window per ping, with the window in its state
(RocksDB).

    python -m stream.bench.peers.quix '{"bootstrap": ..., ...}'    the argument is one Peer as JSON

It needs the extra `peers`. It uses no changelog topics, which would only cost it more.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec
from quixstreams import Application

from stream.bench.peers.model import READY, FullWindow, Peer
from stream.wire import Record

WINDOW: Final = "window"


def build(peer: Peer) -> Any:
    app = Application(
        broker_address=peer.bootstrap,
        consumer_group=peer.group,
        auto_offset_reset="earliest",
        state_dir=peer.home,
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="WARNING",
    )
    pings = app.topic(peer.topics.pings, key_deserializer="bytes", value_deserializer="bytes")
    out = app.topic(peer.topics.forecasts, key_serializer="bytes", value_serializer="bytes")
    model = FullWindow(peer)
    primed = model.windows(peer)

    def forecast(value: bytes, key: bytes, timestamp_ms: int, headers: Any, state: Any) -> bytes | None:
        record = Record(peer.topics.pings, 0, 0, timestamp_ms, key, value)
        asked = model.asked(record, state.get_bytes(WINDOW) or primed.get(key.decode()))
        if asked is None:
            return None
        state.set_bytes(WINDOW, asked.window)
        return model.answers([asked])[0].value

    frame = app.dataframe(pings).apply(forecast, stateful=True, metadata=True)
    frame.filter(lambda value: value is not None).to_topic(out)
    return app


if __name__ == "__main__":
    application = build(msgspec.json.decode(sys.argv[1], type=Peer))
    print(READY, flush=True)  # noqa: T201 - the parent reads it
    application.run()
