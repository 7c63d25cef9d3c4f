"""A PMTiles file (version 3) of one vector tile, which is the world, and in it one square. Tests import this; it tests
nothing itself. https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md

offset 0 "PMTiles" | 7 version 3 | 8 eleven numbers of 8 bytes: offset and length of the root directory, the
metadata, the leaves and the tiles, and counts | 96 clustered, internal compression, tile compression, kind of tile,
zooms | 102 bounds and centre | 127 the root directory
"""

from __future__ import annotations

import json
import struct
from typing import Final

HEADER: Final = 127
EXTENT: Final = 4096
NOT_COMPRESSED, VECTOR_TILE = 1, 1


def world(layer: str) -> bytes:
    """A square of this layer over all of the world."""
    tile = _field(3, _layer(layer))
    directory = b"".join(map(_varint, (1, 0, 1, len(tile), 1)))  # one entry: tile 0, once, its length, at offset 0
    metadata = json.dumps({"vector_layers": [{"id": layer, "fields": {}}]}).encode()
    at_metadata = HEADER + len(directory)
    at_tile = at_metadata + len(metadata)
    numbers = (HEADER, len(directory), at_metadata, len(metadata), at_tile, 0, at_tile, len(tile), 1, 1, 1)
    header = b"PMTiles\x03" + struct.pack("<11Q", *numbers)
    header += bytes((1, NOT_COMPRESSED, NOT_COMPRESSED, VECTOR_TILE, 0, 0))
    header += struct.pack("<4i", -180 * 10**7, -85 * 10**7, 180 * 10**7, 85 * 10**7) + struct.pack("<B2i", 0, 0, 0)
    assert len(header) == HEADER
    return header + directory + metadata + tile


def _layer(name: str) -> bytes:
    """A Mapbox Vector Tile's layer (version 2) with one polygon: move to a corner, three lines, close."""
    side = EXTENT * 2  # as zigzag
    corners = (9, 0, 0, 26, side, 0, 0, side, side - 1, 0, 15)
    feature = _varint(3 << 3) + _varint(3) + _field(4, b"".join(map(_varint, corners)))
    head = _field(1, name.encode()) + _field(2, feature)
    return _varint(15 << 3) + _varint(2) + head + _varint(5 << 3) + _varint(EXTENT)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))
