"""What was decided of versions: records that are only ever added, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec

from stream.registry.manifest import Kind, RegistryError, Version

MAX_DECISION_BYTES: Final = 256 * 1024
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
    reason: Annotated[str, msgspec.Meta(max_length=2_000)]  # one sentence


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
    found: dict[Key, str] = {}
    for one in decisions:
        key = (one.kind, one.version)
        if one.what in ("promote", "rollback"):
            before = "replaced" if one.what == "promote" else "rolled back"
            serving = [other for other, it_is in found.items() if other[0] == one.kind and it_is == "serving"]
            found |= {other: before for other in serving if other != key}
            found[key] = "serving"
        else:
            found[key] = _BECOMES[one.what]
    return found


_BECOMES: Final = {"canary": "canary", "refuse": "refused", "stop": "stopped"}
