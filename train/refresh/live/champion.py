"""Finds the weights that serve now, and puts them into a folder. Where nothing serves, the weights that workers begin
with are published, so that a rollback is possible.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from model.parameters.reading import from_pretrained, resolve
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.registry import About, Manifest, NotFound, Registry
from stream.registry.decisions import Retention
from stream.registry.golden import make_golden
from stream.registry.manifest import WEIGHTS_FILES
from stream.versions.announcing import Announcer
from stream.versions.deciding import Decider
from stream.wire import Topics, WeightsRecord
from train.refresh.run import RefreshOptions
from train.refresh.statement import STATEMENT_FILE, Statement

TRAINED_ON: Final = "trained_on"  # the statement, among the metrics of a manifest


@dataclass(frozen=True)
class LiveRefresh:
    """The settings of a refresh beside a running fleet."""

    registry: Registry
    bootstrap: str
    directory: Path
    # `champion` is what is published where nothing serves; `out` and `cache` are those of each round.
    options: RefreshOptions
    topics: Topics = field(default_factory=Topics.of)
    security: KafkaSecurity = PLAIN_KAFKA
    since_ms: int = 7 * 86_400_000  # how far back pings are taken
    archive: str | None = None
    map: str | None = None  # as the workers have it
    percent: float | None = 5.0  # of the entities, for a canary; None: promote at once
    lead_s: float = 60.0
    keep: Retention = field(default_factory=Retention)

    @asynccontextmanager
    async def decider(self) -> AsyncIterator[Decider]:
        """Yields the means to decide what serves. It is opened for each look, so that nobody else is held up."""
        async with Announcer.open(self.bootstrap, self.topics, self.security, lead_s=self.lead_s) as announcer:
            yield Decider(self.registry, announcer)


async def read_serving(live: LiveRefresh, challenger: str | None) -> WeightsRecord | None:
    """Returns what serves, once the registry has all decisions but that about the challenger of an unfinished round.
    That one the round notes itself, with its numbers, unless `models guard` comes first."""
    async with live.decider() as decider:
        await decider.catch_up(except_version=challenger)
        return decider.serving


def publish_init(live: LiveRefresh) -> str:
    """Publishes the weights that workers begin with, if the registry has not got them, and returns their version.

    Raises WeightsError, RegistryError, OSError.
    """
    name = live.options.champion
    version = from_pretrained(name).fingerprint().hex()
    try:
        return live.registry.manifest("weights", version).version
    except NotFound:
        about = About(note=f"{name}: what served before anything was promoted")
        return live.registry.publish_weights(resolve(name), about, make_golden(name)).version


def fetch_weights(live: LiveRefresh, version: str, folder: Path) -> None:
    """Puts weights of the registry, and the statement of what they were trained on, into a folder. It appears whole.

    Raises RegistryError, OSError.
    """
    if folder.exists():
        return
    fetched, manifest = live.registry.fetch("weights", version), live.registry.manifest("weights", version)
    scratch = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for name in WEIGHTS_FILES:
        shutil.copyfile(fetched / name, scratch / name)
    if (stated := manifest.metrics.get(TRAINED_ON)) is not None:
        (scratch / STATEMENT_FILE).write_text(json.dumps(stated), encoding="utf-8")
    scratch.rename(folder)


def statement_metrics(statement: Statement | None) -> dict[str, Any]:
    """Returns what a manifest's metrics have of a statement."""
    return {} if statement is None else {TRAINED_ON: asdict(statement)}


def is_refreshed(manifest: Manifest) -> bool:
    """Returns whether `pathcast train refresh` has published this version: what people published, it never deletes."""
    return TRAINED_ON in manifest.metrics
