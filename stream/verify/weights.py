"""Reads which weights were announced, loads them, and says of each forecast whether it named the right ones.

A forecast that does not say that it is late must name the weights that `stream.versions.weights` gives for its ping and
its entity. Where that is a worker's own, any are right that were never announced: workers may have been started with
other ones. A late one may also name what applied before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from model.api import Predictor, WeightsError
from stream.engine.assignment import places_of
from stream.registry import Registry, RegistryError
from stream.verify.report import Report
from stream.versions.weights import OWN, PartitionRules, WeightsLedger
from stream.wire import ModelRef


class AnnouncedWeights:
    """Holds what the models topic says of one pings topic's weights, from its first record to its last. An announcement
    that retired still counts, for those who answered before."""

    def __init__(self, topic: str, own: str) -> None:
        """Takes `own`, the version of the workers' own weights."""
        self._ledger = WeightsLedger(topic)
        self._own = own

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """Takes the next record of the topic."""
        serial, record = self._ledger.parse_record(key, value)
        served = any(one.serial == serial and one.state == "serving" for one in self._ledger.records)
        if record is not None or not served:
            self._ledger.add(key, value)

    @property
    def versions(self) -> set[str]:
        return {record.version for record in self._ledger.records}

    def wrong(self, number: int, offset: int, entity_id: str, named: ModelRef) -> str | None:
        """Returns why a forecast of this ping should not name these weights, in words; None if it should."""
        rules = self._ledger.rules(number)
        due = _version(rules, offset, entity_id)
        is_own = named.version == self._own or named.version not in self.versions
        if named.version == due or (due is None and is_own):
            return None
        if named.late and (is_own or named.version in {rule.version for rule in rules.rules if rule.first <= offset}):
            return None
        return f"weights {named.version}, instead of {due or 'those of the worker'}"


def _version(rules: PartitionRules, offset: int, entity_id: str) -> str | None:
    at = int(rules.at(np.array([offset]), places_of([entity_id]))[0])
    return None if at == OWN else rules.rules[at].version


@dataclass
class Loaded:
    """The networks that a replay can ask, by version. The first is that of `--weights`."""

    networks: list[Predictor] = field(default_factory=list)

    def load(self, registry: str, versions: set[str], report: Report) -> None:
        """Loads these versions. One that cannot be loaded is noted: numbers of its forecasts are not compared."""
        source = Registry.open(registry)
        for version in sorted(versions - self.index.keys()):
            try:
                self.networks.append(Predictor.load(source.fetch("weights", version)))
            except (RegistryError, WeightsError, OSError) as error:
                report.notes.append(
                    f"weights {version} cannot be loaded ({error}): the numbers of their forecasts are not compared"
                )

    @property
    def index(self) -> Mapping[str, int]:
        return {network.version: at for at, network in enumerate(self.networks)}
