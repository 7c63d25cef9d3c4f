"""What the commands of `pathcast models` print: versions, manifests and decisions as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from stream.config.options import utc
from stream.registry import Data, Decision, Kind, Manifest
from stream.wire.escape import escaped

HEADINGS = ("version", "kind", "name", "parent", "age", "data", "metrics", "now")
_MOST_CHARS = 60  # of a cell


def rows(manifests: Sequence[Manifest], now: Mapping[tuple[Kind, str], str], now_ms: int) -> list[tuple[str, ...]]:
    """Returns the cells of `list`, a row for each version. `now` is what a version is by the decisions."""
    return [
        (
            one.version,
            one.kind,
            one.name,
            one.parent or "",
            age(now_ms - one.created_ts),
            data(one.data),
            _shorten(", ".join(f"{name} {value}" for name, value in flat(one.metrics))),
            now.get((one.kind, one.version), ""),
        )
        for one in manifests
    ]


def align(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields a line for each row, with columns of one width. Nothing in a cell can move a terminal's cursor."""
    safe = [[escaped(cell) for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    for row in safe:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def age(ms: int) -> str:
    """Returns a span for people, in the largest unit of which it has two."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if ms >= 2 * size:
            return f"{ms // size} {unit}"
    return f"{max(ms, 0) // 1000} s"


def data(found: Data) -> str:
    """Returns what a version was made from, in one line."""
    parts = [f"{count:,} {what}" for count, what in ((found.pings, "pings"), (found.entities, "entities")) if count]
    if found.from_ts is not None and found.to_ts is not None:
        parts.append(f"{utc(found.from_ts)[:10]} to {utc(found.to_ts)[:10]}")
    return _shorten(", ".join(parts or found.sources))


def flat(value: Any, start: str = "") -> Iterator[tuple[str, str]]:
    """Yields the leaves of nested metrics, each with its path and as text."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from flat(below, f"{start}.{key}" if start else str(key))
    elif isinstance(value, list):
        for at, below in enumerate(value):
            yield from flat(below, f"{start}[{at}]")
    else:
        yield start, f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def fields(manifest: Manifest) -> list[tuple[str, str]]:
    """Returns every field of a manifest with its name, metrics and files one by one."""
    stated = {
        "kind": manifest.kind,
        "name": manifest.name,
        "version": manifest.version,
        "parent": manifest.parent or "none",
        "created": f"{utc(manifest.created_ts)} UTC by pathcast {manifest.program}",
        "content": manifest.content,
        "command": manifest.command,
        "seed": "" if manifest.seed is None else str(manifest.seed),
        "note": manifest.note,
    }
    counted = msgspec.to_builtins(manifest.data)
    for name in ("from_ts", "to_ts"):
        if counted[name] is not None:
            counted[name] = f"{utc(counted[name])} UTC"
    files = [(f"files.{name}", f"{file.bytes:,} bytes, {file.sha256}") for name, file in sorted(manifest.files.items())]
    return [
        *((name, text) for name, text in stated.items() if text),
        *((f"data.{name}", text) for name, text in flat(counted) if text),
        *files,
        *flat(manifest.metrics, "metrics"),
    ]


def side_by_side(before: Manifest, after: Manifest) -> list[tuple[str, str, str]]:
    """Returns what two manifests say, where it differs, and by how much where both are numbers."""
    one, other = dict(fields(before)), dict(fields(after))
    names = [*one, *(name for name in other if name not in one)]
    return [
        (name, _shorten(one.get(name, "")), _shorten(other.get(name, "")) + _change(one.get(name), other.get(name)))
        for name in names
        if one.get(name) != other.get(name)
    ]


def decision_cells(one: Decision) -> tuple[str, ...]:
    """Returns the cells of one decision."""
    numbers = ", ".join(f"{name} {value}" for name, value in flat(one.numbers))
    instead = f"instead of {one.instead_of}" if one.instead_of else ""
    return (utc(one.ts), one.what, one.kind, one.version, instead, one.by, _shorten(numbers), one.reason)


def _change(before: str | None, after: str | None) -> str:
    try:
        first, second = float(before or ""), float(after or "")
    except ValueError:
        return ""
    return f" ({second / first - 1:+.1%})" if first else ""


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 3]}..."
