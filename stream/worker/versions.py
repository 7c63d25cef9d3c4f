"""What a worker needs to ask versions: of the atlas, where `--atlases` names their directory; of the weights, where
`--registry` says where they lie."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from aiokafka.errors import KafkaError

from model.api import Atlas, AtlasError, Predictor
from stream.config.security import kafka_refusal
from stream.config.settings import Settings
from stream.engine.entities.predictors import Size
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.atlases import Atlases
from stream.versions.fetching import fetch_weights
from stream.versions.files import path_of
from stream.versions.loading import Loader
from stream.versions.networks import Networks
from stream.versions.serving import Versions
from stream.worker.faust_driver import Consumer


@asynccontextmanager
async def announcements(settings: Settings) -> AsyncIterator[AnnouncementReader | None]:
    """Yields what has heard which versions serve; None if none is to be asked. Raises Refused or KafkaError."""
    if settings.atlases is None and settings.registry is None:
        yield None
        return
    async with AnnouncementReader.open(settings.bootstrap, settings.topics, settings.kafka) as found:
        try:
            await found.look()
        except KafkaError as error:
            if (refusal := kafka_refusal(settings.bootstrap, settings.kafka, error)) is not None:
                raise refusal from error
            raise
        yield found


def versions(
    settings: Settings, reader: AnnouncementReader | None, consumer: Consumer, own: Predictor
) -> Versions | None:
    """Returns what chooses the versions of each ping of this consumer, if any are to be asked. `own` is the network of
    the worker's own weights.
    """
    if reader is None:
        return None
    pings = settings.topics.pings
    return Versions(
        reader,
        None if settings.atlases is None else atlases_of(reader, settings.atlases),
        None if settings.registry is None else networks_of(reader, settings.registry, settings.weights, own),
        hold_s=settings.lead_s / 2,
        log_end=lambda number: consumer.log_end((pings, number)),
    )


def atlases_of(reader: AnnouncementReader, folder: Path) -> Atlases:
    return Atlases(reader, Loader("atlas", partial(_atlas, folder)))


def networks_of(reader: AnnouncementReader, registry: str, weights: str, own: Predictor) -> Networks:
    """Takes the `weights` by which the worker's own network was loaded, in case it is let go and asked again."""
    version, size = own.version, Size.of(own)  # and not `own`, which is let go

    def load(asked: str) -> Predictor:
        # Room for all entities that there are: a pool that had to grow when the first of them came held up their batch,
        # for 138 ms of CPU with 10,000 of them.
        capacity = max(one.capacity for one in tuple(loader.loaded.values()))
        if asked == version:
            return Predictor.load(weights, capacity=capacity)
        network = fetch_weights(registry, asked, capacity)
        if (reason := size.misfit(Size.of(network))) is not None:
            raise ValueError(reason)
        return network

    loader = Loader("weights", load, {version: own})
    return Networks(reader, loader, version)


def _atlas(folder: Path, version: str) -> Atlas:
    """Raises OSError or AtlasError."""
    atlas = Atlas.load(path_of(folder, version))
    if atlas.version != version:
        raise AtlasError(f"{path_of(folder, version)} is version {atlas.version}")
    return atlas
