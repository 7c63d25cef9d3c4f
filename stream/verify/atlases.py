"""Reads the models topic and the atlases' files, so that the replay can ask what the published forecasts asked."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from model.api import Atlas, Predictor
from stream.config.settings import Settings
from stream.kafka import admin
from stream.kafka.reading import to_end
from stream.verify.published import Book
from stream.verify.report import Example, Report
from stream.verify.versions import Announced, ForecastVersions, PublishedVersions
from stream.verify.weights import AnnouncedWeights
from stream.versions.files import path_of

_VERSION: Final = re.compile("[0-9a-f]{16}")  # nothing else that a forecast names may become a path


async def read_announced(settings: Settings, own: str, report: Report) -> tuple[Announced, AnnouncedWeights]:
    """Returns what the models topic says up to its present end. So call this when it is known which answers are judged:
    what a worker had to know of it for them is there then. `own` is the version of the workers' own weights.

    Raises as `stream.kafka.reading.to_end` does.
    """
    pings, topic = settings.topics.pings, settings.topics.models
    found = Announced(pings), AnnouncedWeights(pings, own)
    with admin.connect(settings.bootstrap, settings.kafka) as client:
        if admin.absent(client, [topic]):
            report.notes.append(f"there is no topic {topic}, so no version serves")
            return found
    async for chunk in to_end(settings.bootstrap, topic, settings.kafka):
        for key, value in zip(chunk.records.keys.each(), chunk.records.values.each(), strict=True):
            for one in found:
                one.add(key, value)
    return found


@dataclass
class NamedAtlases:
    """Holds the versions that forecasts name, as far as there are files of them."""

    loaded: list[Atlas] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> Set[str]:
        return self.index.keys()

    def load(self, folder: Path, asked: Sequence[ForecastVersions], models: str, report: Report) -> None:
        """Maps the files of these versions. One that is not there is noted, and one that is damaged, or is another
        version than its name says, is a finding, at the models topic.
        """
        named = {one.atlas.version for one in asked if one.atlas is not None}
        for version in sorted(version for version in named if version is not None):
            path = path_of(folder, version)
            try:
                if not _VERSION.fullmatch(version):
                    raise OSError("no version is called so")
                atlas = Atlas.load(path)
            except OSError as error:
                report.notes.append(
                    f"version {version} of the atlas cannot be read ({error.strerror or error}): the numbers of the "
                    "forecasts that asked it are not compared"
                )
                continue
            except ValueError as error:
                _blame(report, models, f"{path} is damaged: {error}")
                continue
            if atlas.version != version:
                _blame(report, models, f"{path} is version {atlas.version}")
                continue
            self.index[version] = len(self.loaded)
            self.loaded.append(atlas)


def choice_of_replay(book: Book, atlases: NamedAtlases, networks: Sequence[Predictor]) -> PublishedVersions | None:
    """Returns what the replay of this partition asks; None if forecasts name no atlas, and there is one network."""
    atlas, weights = None, None
    if any(one.atlas is not None for one in book.named):
        which = [-1 if one.atlas is None else atlases.index.get(one.atlas.version or "", -1) for one in book.named]
        late = [one.atlas is not None and one.atlas.late for one in book.named]
        atlas = atlases.loaded, np.array(which, np.int64), np.array(late)
    if len(networks) > 1:
        index = {network.version: at for at, network in enumerate(networks)}
        places = [index.get(one.model.version, 0) for one in book.named]
        weights = networks, np.array(places, np.int64), np.array([one.model.late for one in book.named])
    if atlas is None and weights is None:
        return None
    return PublishedVersions(book.span.begin, book.forecasts.first_named(), atlas, weights)


def _blame(report: Report, topic: str, reason: str) -> None:
    report.blame(Example("wrong_atlas", topic, -1, None, None, reason))
