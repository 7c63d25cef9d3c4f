"""Decisions about versions, which are only ever added, and what follows from them: the standing of each version, and
which versions may be deleted. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from stream.registry.manifest import Kind, Manifest, RegistryError, Version

MAX_DECISION_BYTES: Final = 256 * 1024
LONGEST_REASON: Final = 2_000  # characters
DAY_MS: Final = 86_400_000
What = Literal["promote", "canary", "rollback", "refuse", "stop"]
Key = tuple[Kind, str]  # kind and version


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. `version` is the one that it is about: which serves after a promotion or a rollback, answers beside
    the other as canary, was refused, or is stopped (as canary, or serving)."""

    format: Literal[1] = 1
    what: What
    kind: Kind
    version: Version
    instead_of: Version | None = None  # which version served before
    ts: Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]  # ms UTC
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]  # the program
    numbers: dict[str, Any] = {}  # from which it follows, such as errors in metres, or the percent of a canary
    reason: Annotated[str, msgspec.Meta(max_length=LONGEST_REASON)]  # one sentence


_BECOMES: Final = {"canary": "canary", "refuse": "refused", "stop": "stopped"}
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_DECODER: Final = msgspec.json.Decoder(Decision)


def dumps_decision(decision: Decision) -> bytes:
    """Returns the decision as JSON. Raises RegistryError for one that `loads_decision` would refuse."""
    raw = _ENCODER.encode(decision) + b"\n"
    try:
        loads_decision(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise RegistryError(f"this is no decision: {error}") from error
    return raw


def loads_decision(raw: bytes) -> Decision:
    """Raises ValueError (msgspec's error is one) for bytes that are no decision, and RecursionError for some."""
    if len(raw) > MAX_DECISION_BYTES:
        raise ValueError(f"more than {MAX_DECISION_BYTES:,} bytes")
    return _DECODER.decode(raw)


def standings(decisions: Iterable[Decision]) -> dict[Key, str]:
    """Returns what each version is by these decisions, oldest first: serving, replaced, rolled back, canary, refused
    or stopped. A version of which nothing was decided is not in it. At most one of a kind is serving.
    """
    standing: dict[Key, str] = {}
    for one in decisions:
        key = (one.kind, one.version)
        if one.what in ("promote", "rollback"):
            before = "replaced" if one.what == "promote" else "rolled back"
            serving = [other for other, it_is in standing.items() if other[0] == one.kind and it_is == "serving"]
            standing |= {other: before for other in serving if other != key}
            standing[key] = "serving"
        else:
            standing[key] = _BECOMES[one.what]
    return standing


@dataclass(frozen=True)
class Retention:
    """States which versions a registry keeps."""

    newest: int = 20  # versions
    days: float = 30.0  # whatever a decision of these days names


def find_deletable(
    manifests: Sequence[Manifest],
    decisions: Sequence[Decision],
    in_use: Collection[str],
    now_ms: int,
    keep: Retention | None = None,
) -> list[Manifest]:
    """Returns the versions, all of one kind, that may be deleted, oldest first: neither among the newest, nor named by
    a new decision, nor what is in use or a rollback from that would need (`find_formers`).
    """
    keep = keep or Retention()
    in_order = sorted(manifests, key=lambda one: (one.created_ts, one.version))
    needed = {one.version for one in in_order[max(0, len(in_order) - keep.newest) :]}
    needed |= set(in_use) | find_formers(manifests, decisions, in_use)
    for decision in decisions:
        if decision.ts >= now_ms - keep.days * DAY_MS:
            needed |= _named(decision)
    return [one for one in in_order if one.version not in needed]


def find_formers(manifests: Iterable[Manifest], decisions: Iterable[Decision], versions: Collection[str]) -> set[str]:
    """Returns what served before these versions, by the decisions and by what they were refreshed from."""
    versions_before = {one.parent for one in manifests if one.version in versions}
    versions_before |= {one.instead_of for one in decisions if one.version in versions}
    return {version for version in versions_before if version is not None}


def _named(decision: Decision) -> set[str]:
    return {decision.version} | ({decision.instead_of} if decision.instead_of is not None else set())
