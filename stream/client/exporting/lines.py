"""Writes a feature collection, a feature a line, so that its text need not be in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import IO, Any

import msgspec


def write(out: IO[bytes], features: Iterable[Mapping[str, Any]], about: Mapping[str, Any] | None = None) -> int:
    """Writes a FeatureCollection with these features, and the members `about`. Returns how many there were."""
    out.write(b'{"type":"FeatureCollection",')
    for name, value in (about or {}).items():
        out.write(msgspec.json.encode(name) + b":" + msgspec.json.encode(value) + b",")
    out.write(b'"features":[')
    count = 0
    for count, feature in enumerate(features, 1):
        out.write((b",\n" if count > 1 else b"\n") + msgspec.json.encode(feature))
    out.write(b"\n]}\n")
    return count
