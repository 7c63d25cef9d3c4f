"""Judges refreshed weights when all is at rest: only what was found better serves; the record of decisions
says the same as the topic; and what serves is whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import refresher
from networks import make_predictor
from topics_read import read

from stream.registry import Registry, RegistryError
from stream.registry.decisions import standings
from stream.versions.weights import WeightsLedger

if TYPE_CHECKING:
    from stage import Stage

STRANGERS: Final = 900  # serials from here on are not of refreshers


def judge_decisions(stage: Stage) -> list[str]:
    """Returns what is wrong."""
    return [*_judge(stage)]


def _judge(stage: Stage) -> Iterator[str]:
    topics, registry = stage.settings.topics, Registry.open(str(stage.versions.registry_folder))
    ledger, own = WeightsLedger(topics.pings), make_predictor().version
    for record in read(stage, topics.models, 0):
        ledger.add(record.key, record.value)
        _, made = WeightsLedger(topics.pings).parse_record(record.key, record.value)
        if made is None or made.version == own or made.serial >= STRANGERS:
            continue
        if True not in refresher.verdicts.get(made.version, ()):
            yield f"refused: {made.version} is announced at {record.offset}, and was never found better"
    decisions = registry.decisions()
    stage.world.count("decisions", len(decisions))
    standing = {version: it_is for (_, version), it_is in standings(decisions).items()}
    serving = next((one for one in reversed(ledger.records) if one.role == "all"), None)
    canaries = [one for one in ledger.records if one.role == "canary" and one.until is None]
    for one in [*([serving] if serving is not None else []), *canaries]:
        if one.serial >= STRANGERS:
            continue
        due = "serving" if one.role == "all" else "canary"
        if standing.get(one.version) != due:
            yield f"decisions: {one.version} is {due} by the topic, and {standing.get(one.version)} by the registry"
        try:
            registry.fetch("weights", one.version)
        except (RegistryError, OSError) as error:
            yield f"half: {one.version} serves, and the registry has not got it whole: {error}"
    if stage.plan.kinds & {"models_anew", "models_junk"}:
        return  # the new topic says nothing of what the old one did, and a stranger decides without a record
    for version, it_is in standing.items():
        if it_is == "serving" and (serving is None or serving.version != version):
            yield f"decisions: {version} is serving by the registry, and not by the topic"
