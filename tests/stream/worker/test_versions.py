"""What a worker loads when other weights are announced."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import numpy as np

from model.api import Predictor, weights_folder
from stream.registry import About, Registry
from stream.registry.golden import make_golden
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.networks import Networks
from stream.worker.versions import networks_of


async def test_weights_are_loaded_with_room_for_the_entities_that_have_come_since_the_start(tmp_path: Path) -> None:
    """A pool that began as small as the worker's own had to grow when the first entities moved to it, and held up their
    batch."""
    made = Registry.open(str(tmp_path)).publish_weights(
        weights_folder("small-research"), About(), make_golden("small-research")
    )
    own = Predictor.load("small", capacity=4)
    networks = networks_of(cast(AnnouncementReader, None), str(tmp_path), "small", own)
    own.occupy(np.array([100]))
    assert own.capacity > 100
    other = await loaded(networks, made.version)
    assert other.capacity == own.capacity
    networks.loader.need({made.version})
    assert list(networks.loader.loaded) == [made.version], "the worker's own weights are let go"
    again = await loaded(networks, own.version)
    assert again is not own
    assert again.capacity == own.capacity


async def loaded(networks: Networks, version: str) -> Predictor:
    news = asyncio.Event()
    networks.loader.listen(news.set)
    networks.loader.need({version, *networks.loader.loaded})
    async with asyncio.timeout(120):
        await news.wait()
    return networks.loader.loaded[version]
