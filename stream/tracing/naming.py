"""What stands for an entity in spans."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final

ID: Final = "pathcast.entity_id"
HASH: Final = "pathcast.entity_hash"
HASH_CHARS: Final = 16  # of a keyed hash: enough to tell a million entities apart

Named = Callable[[str], Mapping[str, str]]  # the attributes that stand for an entity


def by_id(entity_id: str) -> Mapping[str, str]:
    return {ID: entity_id}


def by_hash(key: bytes) -> Named:
    """Returns what names an entity by a hash under this key."""

    def named(entity_id: str) -> Mapping[str, str]:
        # What a URL names may be no text.
        digest = hmac.new(key, entity_id.encode(errors="replace"), hashlib.sha256)
        return {HASH: digest.hexdigest()[:HASH_CHARS]}

    return named
