"""Holds the model of Kafka to Apache Kafka: the same requests are sent to both, and every answer must be the same: its
error, offsets, epochs, what readers of both kinds see, committed offsets and generations.

What one broker cannot show, and is held to Kafka's sources and texts alone: elections, clean or not, and what follows
from them (more than one leader epoch, logs that get shorter, coordinators that move), power cuts, and compaction, which
a broker does when it likes. Times are the real ones: a session takes six seconds, a late abort up to eleven.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import zip_longest

import kafka_chance_histories as chance
import kafka_group_histories as groups
import kafka_histories as logs
import pytest
from kafka_server import Broker
from kafka_sides import ModelSide, RealSide, Side
from kafka_wire import Wire

pytestmark = pytest.mark.slow

History = Callable[[Side], Awaitable[None]]
SEEDS = range(6)
HISTORIES: dict[str, History] = {
    **{one.__name__: one for one in (*logs.ALL, *groups.ALL)},
    **{f"transactions_by_chance_{seed}": partial(chance.transactions_by_chance, seed=seed) for seed in SEEDS},
    **{f"groups_by_chance_{seed}": partial(chance.groups_by_chance, seed=seed) for seed in SEEDS},
}


async def play(history: History, side: Side) -> None:
    """Plays a history on one side. Its end with an error is a line of the side's trace, too."""
    try:
        await history(side)
    except Exception as error:  # a history that goes on with what it did not expect, as after a refused join
        side.note(f"ended with {error!r}")


async def run_on_broker(history: History, bootstrap: str, model: ModelSide) -> RealSide:
    wire = Wire(bootstrap)
    side = RealSide(model.prefix, wire, model.answers)
    try:
        await wire.find_coordinators(side.name("g"), side.name("t"))
        await play(history, side)
    finally:
        await wire.close()
    return side


async def compare(bootstrap: str, prefix: str, histories: dict[str, History]) -> dict[str, str]:
    """Runs all side by side, as most of them wait, and returns the first difference of each that has one."""
    models = {name: ModelSide(f"{prefix}-{at}", time.time()) for at, name in enumerate(histories)}
    for name, model in models.items():
        await play(histories[name], model)
        assert len(model.trace) > 10, name
    real = await asyncio.gather(*(run_on_broker(histories[name], bootstrap, one) for name, one in models.items()))
    found = {}
    for (name, model), side in zip(models.items(), real, strict=True):
        for step, (one, other) in enumerate(zip_longest(side.trace, model.trace, fillvalue="nothing more")):
            if one != other:
                found[name] = f"step {step}\n  Kafka {one}\n  model {other}"
                break
        else:
            if "ended with" in model.trace[-1]:
                found[name] = f"both {model.trace[-1]}"
    return found


@pytest.mark.system
async def test_the_model_answers_as_apache_kafka(broker: Broker, topic_prefix: str) -> None:
    if not broker.apache:
        pytest.skip("needs Apache Kafka: the model is one of it")
    found = await compare(broker.bootstrap, topic_prefix, HISTORIES)
    assert not found, "\n".join(f"{name}: {what}" for name, what in found.items())
