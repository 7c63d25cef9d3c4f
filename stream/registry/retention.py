"""Which versions a registry need not keep. Pure: what there is and what was decided in, what may be deleted out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from stream.registry.decisions import Decision
from stream.registry.manifest import Manifest

DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Retention:
    """How much is kept."""

    newest: int = 20  # versions
    days: float = 30.0  # whatever a decision of these days names


def expendable(
    manifests: Sequence[Manifest],
    decisions: Sequence[Decision],
    in_use: Collection[str],
    now_ms: int,
    keep: Retention | None = None,
) -> list[Manifest]:
    """Returns the versions, all of one kind, that may be deleted, oldest first: neither among the newest, nor named by
    a new decision, nor what is in use or a rollback from that would need (`formers`).
    """
    keep = keep or Retention()
    in_order = sorted(manifests, key=lambda one: (one.created_ts, one.version))
    needed = {one.version for one in in_order[max(0, len(in_order) - keep.newest) :]}
    needed |= set(in_use) | formers(manifests, decisions, in_use)
    for decision in decisions:
        if decision.ts >= now_ms - keep.days * DAY_MS:
            needed |= _named(decision)
    return [one for one in in_order if one.version not in needed]


def formers(manifests: Iterable[Manifest], decisions: Iterable[Decision], versions: Collection[str]) -> set[str]:
    """Returns what served before these versions, by the decisions and by what they were refreshed from."""
    found = {one.parent for one in manifests if one.version in versions}
    found |= {one.instead_of for one in decisions if one.version in versions}
    return {version for version in found if version is not None}


def _named(decision: Decision) -> set[str]:
    return {decision.version} | ({decision.instead_of} if decision.instead_of is not None else set())
