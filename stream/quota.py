"""How many entities a partition may have in the store. Knows counts and names; knows no store and no track.

Whoever may write to the pings topic can invent entities, and each costs the store 4.5 KB or more until it expires. So a
partition takes in no new entity beyond a quota: its pings become dead letters until others have expired or the quota is
raised. An entity that is known, in memory or in the store, is never refused.

What the store has depends on what has expired, and so on the time: which entity was refused is no function of the log
alone. `pathcast verify` takes these dead letters for what they say (`verify.judge`). A replay of records that were
answered before may take in some more than the quota, because it must not refuse whom the owner before has taken in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stream.quarantine import fault
from stream.residents import Shard

ENTITY_QUOTA_EXCEEDED: Final = "entity_quota_exceeded"
LENIENCE: Final = 8  # a replay takes in one in so many more: a second of a fleet's new entities, and no flood's


class Quota:
    """The same for every partition."""

    def __init__(self, most: int) -> None:
        self._most = most
        message = f"a new entity, and its partition has {most} already: see --max-stored-entities"
        self.refusal = fault(ENTITY_QUOTA_EXCEEDED, message)

    def admitted(
        self, shard: Shard, stored: Mapping[str, bytes | None], *, lenient: bool
    ) -> Mapping[str, bytes | None]:
        """Those of these entities, which are not in memory, that may be; notes new ones, and those that are refused.

        Args:
            stored: their records; None of a new one.
            lenient: their pings were answered before.
        """
        new = [entity_id for entity_id, raw in stored.items() if raw is None]
        limit = self._most + lenient * (self._most // LENIENCE)
        room = max(limit - shard.stored - len(shard.new), 0)
        refused = set(new[room:])
        shard.new.update(new[:room])
        shard.refused = shard.refused - stored.keys() | refused
        return {entity_id: raw for entity_id, raw in stored.items() if entity_id not in refused} if refused else stored
