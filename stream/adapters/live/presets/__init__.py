"""Finds formats by name, for `--map NAME`: maps beside this file, and readers of their own.

A name or a file becomes a `Preset`: what reads the messages, and how their sender signs them.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from stream.adapters.live.mapping import MapReader, Signed, load, parse
from stream.adapters.live.mapping.definition import SUFFIXES
from stream.adapters.live.parsed import Parsed, Reader

# Readers that are more than a map: the module of the same name in `formats` has `read(raw, came_ms)`.
CODED: Final = {
    "owntracks": "messages of _type location, over HTTP",
    "pathcast": "pings of ours: one, an array, or one a line",
    "traccar": "position forwarding in JSON",
}


class Preset(NamedTuple):
    """A format that can be asked for."""

    name: str  # of the adapter, in dead letters and metrics; and of the webhook
    read: Reader
    about: str = ""
    signed: Signed | None = None


def names() -> list[str]:
    """Returns the names of all presets, in order."""
    return sorted([*_maps(), *CODED])


def find_preset(given: str) -> Preset:
    """Returns the preset of a name, or what the map in a file says.

    Raises ValueError if there is neither, or the map cannot be used (MapError names the key); OSError.
    """
    if given in _maps():
        mapped = parse(text_of(given).encode(), f"the preset {given}")
        return Preset(mapped.name, MapReader(mapped), mapped.about, mapped.signed)
    if given in CODED:
        return Preset(given, _read_of(given), CODED[given])
    path = Path(given)
    if path.suffix.lower() in SUFFIXES or path.exists():
        mapped = load(path)
        return Preset(mapped.name, MapReader(mapped), mapped.about, mapped.signed)
    near = get_close_matches(given, names(), 1)
    meant = f"; is {near[0]} meant?" if near else ""
    raise ValueError(f"{given!r} is neither a preset nor a file of a map; presets are {', '.join(names())}{meant}")


def text_of(name: str) -> str:
    """Returns the file of a preset that is a map, to begin an own one with. Raises ValueError if it is none."""
    if name not in _maps():
        why = "it is read by code of its own" if name in CODED else f"presets are {', '.join(names())}"
        raise ValueError(f"there is no map of the name {name!r}: {why}")
    return files(__name__).joinpath(f"{name}.toml").read_text()


@cache
def _maps() -> frozenset[str]:
    return frozenset(one.name.removesuffix(".toml") for one in files(__name__).iterdir() if one.name.endswith(".toml"))


def _read_of(name: str) -> Reader:
    read: Callable[[bytes, int], list[Parsed]] = import_module(f"stream.adapters.live.formats.{name}").read
    return read
