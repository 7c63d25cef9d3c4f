"""Reads the models topic and the atlases' files, so that the replay can ask what the published forecasts asked."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from model.api import Atlas
from stream.config.settings import Settings
from stream.kafka import admin
from stream.kafka.log import bounds, reread
from stream.verify.published import Book
from stream.verify.report import Example, Report
from stream.verify.versions import Announced, Named, Said
from stream.versions.files import path_of

_VERSION: Final = re.compile("[0-9a-f]{16}")  # nothing else that a forecast names may become a path


async def announced(settings: Settings, report: Report) -> Announced:
    """Returns what the models topic says up to its present end. So call this when it is known which answers are judged:
    what a worker had to know of it for them is there then.

    Raises KafkaError, or as `admin.connected` does.
    """
    found, topic = Announced(settings.topics.pings), settings.topics.models
    servers, access = settings.bootstrap.split(","), settings.kafka.arguments()
    with admin.connected(settings.bootstrap, settings.kafka) as client:
        if admin.absent(client, [topic]):
            report.notes.append(f"there is no topic {topic}, so no version of the atlas serves")
            return found
    ((begin, end),) = (await bounds(servers, [(topic, 0)], access=access)).values()
    async for records in reread(servers, (topic, 0), begin, end, access=access):
        for key, value in zip(records.keys.each(), records.values.each(), strict=True):
            found.add(key, value)
    return found


@dataclass
class NamedAtlases:
    """Holds the versions that forecasts name, as far as there are files of them."""

    loaded: list[Atlas] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> Set[str]:
        return self._index.keys()

    def load(self, folder: Path, named: Sequence[Named | None], models: str, report: Report) -> None:
        """Maps the files of these versions. One that is not there is noted, and one that is damaged, or is another
        version than its name says, is a finding, at the models topic.
        """
        for version in sorted({one.version for one in named if one is not None and one.version is not None}):
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
            self._index[version] = len(self.loaded)
            self.loaded.append(atlas)

    def choice(self, book: Book) -> Said | None:
        """Returns what the replay of this partition asks; None if no forecast of any partition names an atlas."""
        if len(book.named) == 1:
            return None
        which = [-1 if one is None else self._index.get(one.version or "", -1) for one in book.named]
        late = [one is not None and one.late for one in book.named]
        return Said(self.loaded, book.span.begin, book.forecasts.named(), np.array(which, np.int64), np.array(late))


def _blame(report: Report, topic: str, reason: str) -> None:
    report.blame(Example("wrong_atlas", topic, -1, None, None, reason))
