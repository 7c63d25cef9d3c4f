"""Reads what `--basemap` says: a PMTiles file, which our server hands out, or the address of tiles, which each browser
asks another host for.

A PMTiles file (https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md) begins with

    offset 0 "PMTiles" | 7 version 3 | 24 where its metadata begin, and 32 how long they are, 8 bytes each
    | 97 how they are compressed | 98 how the tiles are | 99 what the tiles are
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

MAGIC: Final = b"PMTiles"
HEADER_BYTES: Final = 127
MOST_METADATA_BYTES: Final = 16_000_000  # those of the whole planet are some 2 KB
READABLE: Final = (0, 1, 2)  # compressions that the page undoes: not told, none, gzip
VECTOR, KINDS = 1, (1, 2, 3, 4, 5)  # vector tiles; and PNG, JPEG, WebP, AVIF
DRAWN: Final = frozenset(("earth", "water", "roads", "buildings"))  # layers that page/drawing/basemap.js draws
PLACES: Final = frozenset(("{z}", "{x}", "{y}"))
HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
OPENSTREETMAP: Final = "openstreetmap.org"


@dataclass(frozen=True)
class Basemap:
    """The streets of others below the fleet: either a file or an address."""

    file: Path | None = None
    address: str = ""  # with {z}, {x} and {y}
    origin: str = ""  # that the page may load from: scheme, host and port
    host: str = ""  # as people are told it
    credit: str = ""  # to whom the tiles belong


def parse_basemap(text: str) -> Basemap:
    """Returns what `--basemap` says. Raises ValueError for an address that the page cannot use, and for a file that is
    none or that has nothing that is drawn."""
    if "://" in text:
        return _parse_address(text)
    file = Path(text)
    try:
        _check_file(file)
    except OSError as error:
        raise ValueError(f"{text} cannot be read: {error.strerror or error}") from None
    return Basemap(file=file.absolute())


def _parse_address(text: str) -> Basemap:
    address, _, credit = text.partition("#")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"{address!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{address!r} begins with neither https:// nor http://")
    if "@" in parts.netloc:
        raise ValueError("the address has a user or a password, which everybody who looks at the map would see")
    if HOST.fullmatch(host) is None:
        raise ValueError(f"{address!r} has no host that a browser's policy can name: letters, digits, '.' and '-'")
    if parts.path.endswith(".pmtiles"):
        raise ValueError(f"{address} is a whole PMTiles file: download it, or a region of it by `pmtiles extract`")
    if (hint := _hint(parts.path, set(re.findall(r"\{.*?\}", address)))) is not None:
        raise ValueError(f"{address} {hint}; expected an address such as https://HOST/{{z}}/{{x}}/{{y}}.png")
    at = host if port is None else f"{host}:{port}"
    if not credit:
        credit = "© OpenStreetMap contributors" if f".{host}".endswith(f".{OPENSTREETMAP}") else f"Tiles: {host}"
    return Basemap(address=address, origin=f"{parts.scheme}://{at}", host=at, credit=credit)


def _hint(path: str, places: set[str]) -> str | None:
    if path.endswith((".pbf", ".mvt")):
        return "has vector tiles, which are drawn from a PMTiles file only"
    if path.endswith(".json") or not places:
        return "is no address of tiles: a style cannot be used, as it names further hosts"
    if missing := PLACES - places:
        return f"lacks {', '.join(sorted(missing))}"
    if more := places - PLACES:
        return f"has {', '.join(sorted(more))}, which the page does not fill in"
    return None


def _check_file(file: Path) -> None:
    with file.open("rb") as opened:
        header = opened.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
            raise ValueError(f"{file} is no PMTiles file: it does not begin with the header of one")
        version, (begin, length) = header[7], struct.unpack_from("<2Q", header, 24)
        compressions, kind = header[97:99], header[99]
        if version != 3:
            raise ValueError(f"{file} is of version {version} of PMTiles, and 3 is read: `pmtiles convert` makes that")
        if not set(compressions) <= set(READABLE) or kind not in KINDS:
            raise ValueError(f"{file} has tiles that browsers do not read: of kind {kind}, {compressions.hex(' ')}")
        opened.seek(begin)
        raw = opened.read(min(length, MOST_METADATA_BYTES))
    if len(raw) < length:
        raise ValueError(f"{file} ends before its metadata: was it downloaded whole?")
    if kind == VECTOR:
        _check_layers(file, raw, is_gzipped=compressions[0] == 2)


def _check_layers(file: Path, raw: bytes, *, is_gzipped: bool) -> None:
    try:
        metadata: Any = json.loads(gzip.decompress(raw) if is_gzipped else raw)
        layers = {str(one["id"]) for one in metadata.get("vector_layers", ())}
    except (ValueError, AttributeError, KeyError, TypeError, OSError, EOFError, zlib.error):
        raise ValueError(f"{file} is damaged: its metadata are no JSON of vector tiles") from None
    if not layers & DRAWN:
        some = ", ".join(sorted(layers)[:8]) or "none"
        raise ValueError(f"{file} has nothing that is drawn: layers of Protomaps' basemap are, and its own are {some}")
