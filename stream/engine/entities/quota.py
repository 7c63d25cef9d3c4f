"""Limits how many entities a partition may have in the store.

Anyone who can write to the pings topic can invent entities, and each costs the store 4.5 KB or more until it expires.
So a partition accepts no new entity beyond a quota: its pings become dead letters until others have expired or the
quota is raised. An entity that is in memory or in the store, or whose state the store has lost, is never refused.

A replay of records that were answered before decides as the first pass did, unless states have expired meanwhile: which
entity is refused does not depend on the log alone. So `pathcast verify` accepts these dead letters as they are
(`stream.verify.judging.judge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stream.engine.entities.quarantine import fault
from stream.engine.entities.shard import Shard

ENTITY_QUOTA_EXCEEDED: Final = "entity_quota_exceeded"


class Quota:
    """The quota, which is the same for every partition."""

    def __init__(self, most: int) -> None:
        self._most = most
        message = f"a new entity, and its partition has {most} already: see --max-stored-entities"
        self.refusal = fault(ENTITY_QUOTA_EXCEEDED, message)

    def admit(self, shard: Shard, stored: Mapping[str, bytes | None]) -> Mapping[str, bytes | None]:
        """Returns those of these entities that may be in memory. `stored` has their records, None where there is none.

        It notes in the shard which entities are new, and which are refused.
        """
        absent = [entity_id for entity_id, raw in stored.items() if raw is None]
        room = max(self._most - shard.stored - len(shard.new), 0)
        refused = set([entity_id for entity_id in absent if entity_id not in shard.lost][room:])
        shard.new.update(set(absent) - refused)
        shard.refused = shard.refused - stored.keys() | refused
        return {entity_id: raw for entity_id, raw in stored.items() if entity_id not in refused} if refused else stored
