"""Decides which weights of a registry serve: announces them to the workers, and adds the decision to the registry.

First announced, then noted: what was noted serves. If a process dies in between, or another announcer begins and
confirms what it had announced, the models topic has it alone, which decides what workers do. Whoever decides next notes
it first (`Decider.catch_up`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple

from aiokafka.errors import ProducerFenced

from stream.config import failpoints
from stream.registry import Decision, Manifest, Registry, RegistryError
from stream.registry.decisions import DAY_MS, LONGEST_REASON, What, standings
from stream.versions.announcing import Announcer, Role
from stream.wire import ALL, WeightsRecord

log = logging.getLogger(__name__)

RAMP_S = 60.0  # until every entity has followed: a state takes a millisecond to rebuild
BY_TOPIC = "models topic"  # stands for whoever took a decision that was found there alone
_WHATS: Final = {"all": ("promote", "rollback"), "canary": ("canary",)}  # the decisions by which a role begins


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
        self.announcement: tuple[Role, str, int] | None = None  # the last one, and since when, in Unix ms

    @property
    def serving(self) -> WeightsRecord | None:
        """The announcement of the weights that serve, or begin to; None while workers use their own."""
        return next((one for one in reversed(self._announcer.weights.records) if one.role == "all"), None)

    @property
    def canaries(self) -> list[WeightsRecord]:
        """The announcements of canaries that have not ended."""
        return [one for one in self._announcer.weights.records if one.role == "canary" and one.until is None]

    async def catch_up(self, except_version: str | None = None) -> list[Decision]:
        """Adds the promotions, rollbacks and canaries to the registry that the topic has alone, and returns them.

        Weights that the registry has not got are a stranger's: of them, and of `except_version`, nothing is noted.
        """
        decisions, serving = self._registry.decisions(), self.serving
        unnoted = [one for one in self.canaries if find_note(decisions, one) is None]
        if serving is not None and find_note(decisions, serving) is None:
            unnoted = [serving, *(one for one in unnoted if one.serial > serving.serial)]
        manifests = self._registry.manifests("weights") if unnoted else []
        known, made = {one.version for one in manifests} - {except_version}, []
        for one in unnoted:
            if one.version in known:
                if one.role == "all":
                    await self._end([each for each in self.canaries if each.serial < one.serial])
                made.append(self._note_late(one, decisions, manifests))
                log.warning("%s %s was announced, and the registry did not say so", made[-1].what, one.version)
        return made

    def _note_late(self, one: WeightsRecord, decisions: Iterable[Decision], manifests: Iterable[Manifest]) -> Decision:
        """Adds the decision about an announcement of which the topic says neither who took it nor by what numbers."""
        why = Why(one.reason[:LONGEST_REASON], BY_TOPIC)
        if one.role == "canary":
            numbers = {"percent": one.parts * 100 / ALL}
            return self._note(one, "canary", why._replace(numbers=numbers), _version_of(self.serving))
        standing = {version: it_is for (kind, version), it_is in standings(decisions).items() if kind == "weights"}
        before = next((version for version, it_is in standing.items() if it_is == "serving"), None)
        for earlier in self._announcer.weights.records:  # the topic may know of more than the registry
            if earlier.role == "all" and earlier.serial < one.serial:
                before = earlier.version
        refreshed = next((each.parent for each in manifests if each.version == before), None)
        back = standing.get(one.version) == "replaced" or one.version == refreshed
        return self._note(one, "rollback" if back else "promote", why, before)

    def find_decision(self, role: Role, version: str, from_ms: int) -> Decision | None:
        """Returns the decision about what has been announced since then, if it serves and is noted."""
        records = [one for one in self._announcer.weights.records if (one.role, one.version) == (role, version)]
        since = [one for one in records if one.state == "serving" and one.issued_ts >= from_ms]
        return find_note(self._registry.decisions(), since[-1]) if since else None

    async def promote(self, version: str, why: Why, *, ramp_s: float = RAMP_S) -> Decision:
        """Lets weights answer all entities, and ends all canaries."""
        made, before = self._manifest(version), self.serving
        if before is not None and before.version == made.version:
            raise RegistryError(f"weights {made.version} serve already")
        record = await self._announce(made, "all", why, ramp_s=ramp_s)
        await self._end(self.canaries)
        return self._note(record, "promote", why, instead_of=_version_of(before))

    async def canary(self, version: str, percent: float, why: Why) -> Decision:
        """Lets weights answer a part of the entities. A former canary ends."""
        made = self._manifest(version)
        if not 0.01 <= percent <= 100:
            raise RegistryError(f"a canary has 0.01 to 100 percent of the entities, got {percent:g}")
        await self._end(self.canaries)
        record = await self._announce(made, "canary", why, parts=round(percent * ALL / 100))
        numbers = {**why.numbers, "percent": percent}
        return self._note(record, "canary", why._replace(numbers=numbers), instead_of=_version_of(self.serving))

    async def stop(self, version: str, why: Why) -> Decision:
        """Ends the canaries of these weights."""
        made = self._manifest(version)
        ending = [one for one in self.canaries if one.version == made.version]
        it_is = standings(self._registry.decisions()).get(("weights", made.version))
        if not ending and it_is != "canary":  # it is one still where whoever ended it died before the note
            raise RegistryError(f"weights {made.version} are no canary")
        await self._end(ending)
        failpoints.reach("after_announcement")
        return self._decide("stop", made.version, why)

    async def rollback(self, why: Why, *, to: str | None = None) -> Decision:
        """Lets the weights answer that served before, or those that are named, at once."""
        bad = self.serving
        if bad is None:
            raise RegistryError("no weights serve that were promoted: workers use their own")
        made = self._manifest(to or self._former(bad))
        if made.version == bad.version:
            raise RegistryError(f"weights {made.version} serve already")
        record = await self._announce(made, "all", why)
        await self._end(self.canaries)
        return self._note(record, "rollback", why, instead_of=bad.version)

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

    async def _announce(self, made: Manifest, role: Role, why: Why, **more: Any) -> WeightsRecord:
        self._registry.fetch("weights", made.version)  # whole and as it was published, before anybody is told
        self.announcement = (role, made.version, int(time.time() * 1000))
        return await self._announcer.announce_weights(made.version, made.name, role=role, reason=why.reason, **more)

    def _note(self, one: WeightsRecord, what: What, why: Why, instead_of: str | None) -> Decision:
        """Adds the decision about an announcement, unless whoever decided next has done so meanwhile."""
        failpoints.reach("after_announcement")
        noted = find_note(self._registry.decisions(), one)
        return noted or self._decide(what, one.version, why, instead_of, _issued_ms(one))

    def _decide(self, what: What, version: str, why: Why, instead_of: str | None = None, from_ms: int = 0) -> Decision:
        decision = Decision(
            what=what,
            kind="weights",
            version=version,
            instead_of=None if instead_of == version else instead_of,
            ts=max(round(time.time() * 1000), from_ms),  # the announcer's clock may be ahead of ours
            by=why.by,
            numbers=dict(why.numbers),
            reason=why.reason,
        )
        self._registry.decide(decision)
        return decision


def find_note(decisions: Iterable[Decision], announced: WeightsRecord) -> Decision | None:
    """Returns the decision about an announcement, if there is one."""
    about = (one for one in decisions if one.version == announced.version and one.ts >= _issued_ms(announced))
    return next((one for one in about if one.what in _WHATS[announced.role]), None)


async def decide(
    open_announcer: Callable[[], AbstractAsyncContextManager[Announcer]],
    registry: Registry,
    take: Callable[[Decider], Awaitable[Decision]],
) -> Decision:
    """Takes one decision, and returns it.

    If another announcer begins meanwhile, it confirms or withdraws what was announced here. If it confirms it, this
    returns the decision all the same, whoever has noted it.

    Raises:
        RegistryError: the registry lacked a decision, which is noted now: whoever asked did not know of it. Or another
            announcer began, and what was announced here does not serve.
        OSError, KafkaError, ...: as the methods of `Decider`.
    """
    async with open_announcer() as announcer:
        decider = Decider(registry, announcer)
        if late := await decider.catch_up():
            said = ", ".join(f"{one.what} {one.version}" for one in late)
            raise RegistryError(f"the registry did not have what was decided last, and has it now: {said}. Ask again")
        try:
            return await take(decider)
        except ProducerFenced as error:
            fenced = error
    async with open_announcer() as announcer:
        other = Decider(registry, announcer)
        await other.catch_up()
        if decider.announcement is not None and (made := other.find_decision(*decider.announcement)) is not None:
            return made
    raise RegistryError(
        "another process announced something at the same time: see by `pathcast models list` what serves, and ask again"
    ) from fenced


def _issued_ms(announced: WeightsRecord) -> int:
    """Returns when it was announced, in Unix ms, or 0 if its clock was wrong by more than a day: decisions are in the
    order of their times."""
    return announced.issued_ts if announced.issued_ts < time.time() * 1000 + DAY_MS else 0


def _version_of(record: WeightsRecord | None) -> str | None:
    return None if record is None else record.version
