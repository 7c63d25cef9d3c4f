"""How many entities a partition may have in the store. Knows counts and names; knows no store and no track.

Whoever may write to the pings topic can invent entities, and each costs the store 4.5 KB or more until it expires. So a
partition takes in no new entity beyond a quota: its pings become dead letters until others have expired or the quota is
raised. An entity that is known, in memory or in the store, or whose state the store has lost, is never refused.

A replay of records that were answered before decides as the first pass did, unless states have expired meanwhile: which
entity is refused is no function of the log alone. So `pathcast verify` takes these dead letters for what they say
(`stream.verify.judge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stream.engine.entities import Shard
from stream.engine.quarantine import fault

ENTITY_QUOTA_EXCEEDED: Final = "entity_quota_exceeded"


class Quota:
    """The same for every partition."""

    def __init__(self, most: int) -> None:
        self._most = most
        message = f"a new entity, and its partition has {most} already: see --max-stored-entities"
        self.refusal = fault(ENTITY_QUOTA_EXCEEDED, message)

    def admitted(self, shard: Shard, stored: Mapping[str, bytes | None]) -> Mapping[str, bytes | None]:
        """Those of these entities that may be in memory. `stored` has their records, None where there is none.

        Notes in the shard who is new, and who is refused.
        """
        absent = [entity_id for entity_id, raw in stored.items() if raw is None]
        room = max(self._most - shard.stored - len(shard.new), 0)
        refused = set([entity_id for entity_id in absent if entity_id not in shard.lost][room:])
        shard.new.update(set(absent) - refused)
        shard.refused = shard.refused - stored.keys() | refused
        return {entity_id: raw for entity_id, raw in stored.items() if entity_id not in refused} if refused else stored
