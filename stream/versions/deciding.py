"""Decides which weights of a registry serve: announces them to the workers, and adds the decision to the registry.

First announced, then noted: what was noted serves. If a process dies in between, the models topic has it alone, which
decides what workers do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stream.config import failpoints
from stream.registry import Decision, Manifest, Registry, RegistryError
from stream.registry.decisions import What
from stream.versions.announcing import Announcer
from stream.wire import ALL, WeightsRecord

RAMP_S = 60.0  # until every entity has followed: a state takes a millisecond to rebuild


class Why(NamedTuple):
    """The grounds of a decision."""

    reason: str  # one sentence
    by: str  # the program, or the person
    numbers: Mapping[str, Any] = {}


class Decider:
    """Changes what serves. Its methods raise as `Announcer.announce`, and RegistryError."""

    def __init__(self, registry: Registry, announcer: Announcer) -> None:
        self._registry = registry
        self._announcer = announcer

    @property
    def serving(self) -> WeightsRecord | None:
        """The announcement of the weights that serve, or begin to; None while workers use their own."""
        return next((one for one in reversed(self._announcer.weights.records) if one.role == "all"), None)

    @property
    def canaries(self) -> list[WeightsRecord]:
        """The announcements of canaries that have not ended."""
        return [one for one in self._announcer.weights.records if one.role == "canary" and one.until is None]

    async def promote(self, version: str, why: Why, *, ramp_s: float = RAMP_S) -> Decision:
        """Lets weights answer all entities, and ends all canaries."""
        made, before = self._manifest(version), self.serving
        if before is not None and before.version == made.version:
            raise RegistryError(f"weights {made.version} serve already")
        await self._announce(made, "all", why, ramp_s=ramp_s)
        await self._end(self.canaries)
        return self._decide("promote", made.version, why, instead_of=before)

    async def canary(self, version: str, percent: float, why: Why) -> Decision:
        """Lets weights answer a part of the entities. A former canary ends."""
        made = self._manifest(version)
        if not 0.01 <= percent <= 100:
            raise RegistryError(f"a canary has 0.01 to 100 percent of the entities, got {percent:g}")
        await self._end(self.canaries)
        await self._announce(made, "canary", why, parts=round(percent * ALL / 100))
        numbers = {**why.numbers, "percent": percent}
        return self._decide("canary", made.version, why._replace(numbers=numbers), instead_of=self.serving)

    async def stop(self, version: str, why: Why) -> Decision:
        """Ends the canaries of these weights."""
        made = self._manifest(version)
        ending = [one for one in self.canaries if one.version == made.version]
        if not ending:
            raise RegistryError(f"weights {made.version} are no canary")
        await self._end(ending)
        return self._decide("stop", made.version, why)

    async def rollback(self, why: Why, *, to: str | None = None) -> Decision:
        """Lets the weights answer that served before, or those that are named, at once."""
        bad = self.serving
        if bad is None:
            raise RegistryError("no weights serve that were promoted: workers use their own")
        made = self._manifest(to or self._former(bad))
        if made.version == bad.version:
            raise RegistryError(f"weights {made.version} serve already")
        await self._announce(made, "all", why)
        await self._end(self.canaries)
        return self._decide("rollback", made.version, why, instead_of=bad)

    def _former(self, bad: WeightsRecord) -> str:
        """Returns the version that served before: by the decisions, or else the one that it was refreshed from."""
        for one in reversed(self._registry.decisions()):
            if one.version == bad.version and one.what in ("promote", "rollback") and one.instead_of is not None:
                return one.instead_of
        parent = self._registry.manifest("weights", bad.version).parent
        if parent is not None and any(one.version == parent for one in self._registry.manifests("weights")):
            return parent
        # Workers may have been started with different ones, and only what is announced can be answered with again.
        raise RegistryError(
            f"nothing was promoted before {bad.version}: workers answered with their own weights (--weights), which "
            "this registry does not know as those. Publish them, such as by `pathcast models publish small`, and name "
            "their version: `pathcast models rollback --to VERSION`"
        )

    def _manifest(self, version: str) -> Manifest:
        return self._registry.manifest("weights", version)

    async def _end(self, canaries: Iterable[WeightsRecord]) -> None:
        for one in canaries:
            await self._announcer.end(one)

    async def _announce(self, made: Manifest, role: Any, why: Why, **more: Any) -> None:
        self._registry.fetch("weights", made.version)  # whole and as it was published, before anybody is told
        await self._announcer.announce_weights(made.version, made.name, role=role, reason=why.reason, **more)

    def _decide(self, what: What, version: str, why: Why, instead_of: WeightsRecord | None = None) -> Decision:
        decision = Decision(
            what=what,
            kind="weights",
            version=version,
            instead_of=None if instead_of is None or instead_of.version == version else instead_of.version,
            ts=round(time.time() * 1000),
            by=why.by,
            numbers=dict(why.numbers),
            reason=why.reason,
        )
        failpoints.reach("after_announcement")
        self._registry.decide(decision)
        return decision
