"""Peer (a): runs a plain Faust agent with the same weights over the full window per ping.

    python -m stream.bench.peers.faust_agent '{"bootstrap": ..., ...}'    the argument is one Peer as JSON

It uses unmodified Faust: its own consumer, its own offsets, `@app.agent`, one event at a time or `take_events`.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import faust
import msgspec

from stream.bench.peers.model import READY, Asked, FullWindow, Peer
from stream.wire import Record

WITHIN_S: Final = 0.05  # how long a take waits for more pings


def build(peer: Peer) -> faust.App:
    app = faust.App(
        peer.group,
        broker=[f"kafka://{server}" for server in peer.bootstrap.split(",")],
        store="memory://",
        datadir=peer.home,
        topic_allow_declare=False,
        topic_disable_leader=True,
        reply_create_topic=False,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
    )
    pings = app.topic(peer.topics.pings, key_type=bytes, value_type=bytes, value_serializer="raw")
    out = app.topic(peer.topics.forecasts, key_type=bytes, value_type=bytes, value_serializer="raw")
    model = FullWindow(peer)
    windows = model.windows(peer)

    async def answer(events: list[Any]) -> None:
        asked = [one for event in events if (one := _asked(model, windows, event)) is not None]
        for answered in model.answers(asked) if asked else ():
            await out.send(key=answered.key, value=answered.value, headers=dict(answered.headers))

    @app.agent(pings, name="forecast")
    async def forecast(stream: Any) -> None:
        if peer.take == 1:
            async for event in stream.events():
                await answer([event])
        else:
            async for events in stream.take_events(peer.take, within=WITHIN_S):
                await answer(list(events))

    return app


def _asked(model: FullWindow, windows: dict[str, bytes], event: Any) -> Asked | None:
    message = event.message
    timestamp_ms = int(message.timestamp * 1000)
    record = Record(message.topic, message.partition, message.offset, timestamp_ms, message.key, event.value)
    key = message.key.decode()
    asked = model.asked(record, windows.get(key))
    if asked is not None:
        windows[key] = asked.window
    return asked


if __name__ == "__main__":
    faust_app = build(msgspec.json.decode(sys.argv[1], type=Peer))
    print(READY, flush=True)  # noqa: T201 - the parent reads it
    faust.Worker(faust_app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()
