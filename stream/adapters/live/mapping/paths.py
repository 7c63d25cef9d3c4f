"""Finds values in a JSON message by their paths.

    position.latitude    a field of an object in the position; or a field with that dotted name, as flespi writes it
    ../id                in the object that contains the position; one ../ for each step of `positions`
    /vehicle.id          from the message's beginning

`positions` names where the positions are: `data[].gps[]` stands for all elements of `gps` in all elements of `data`. An
object in the place of an array counts as its only element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

ABSENT: Final = object()  # there is nothing, which null is not
UP: Final = "../"
ROOT: Final = "/"
EACH: Final = "[]"
MAX_NAMES: Final = 8  # of one path; each split of a dotted name is tried


class Path(NamedTuple):
    """A parsed path. `up`: how many steps of `positions` it goes back; None: to the beginning."""

    text: str
    up: int | None
    name: str

    @classmethod
    def parse(cls, text: str) -> Path:
        """Raises ValueError, which says what is wrong."""
        rest, up = text, 0
        if text.startswith(ROOT):
            return cls(text, None, _check_names(text[len(ROOT) :], text))
        while rest.startswith(UP):
            rest, up = rest[len(UP) :], up + 1
        return cls(text, up, _check_names(rest, text))

    def find(self, scopes: Sequence[Any]) -> Any:
        """Returns the value, or ABSENT. `scopes` are the message, and the objects on the way to the position."""
        if self.up is None:
            return look_up(scopes[0], self.name)
        return look_up(scopes[-1 - self.up], self.name) if self.up < len(scopes) else ABSENT


class Steps(NamedTuple):
    """The steps from a message to its positions."""

    text: str
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Steps:
        """Raises ValueError, which says what is wrong."""
        parts = text.removesuffix(EACH).split(EACH)
        names = [part if at == 0 else part.removeprefix(".") for at, part in enumerate(parts)]
        return cls(text, tuple(_check_names(name, text) for name in names))

    def begins_in(self, message: Any) -> bool:
        return look_up(message, self.names[0]) is not ABSENT

    def scopes(self, before: tuple[Any, ...], at: int = 0) -> Iterator[tuple[Any, ...]]:
        """Yields each position, after the objects that contain it."""
        if at == len(self.names):
            yield before
            return
        value = look_up(before[-1], self.names[at])
        if value is ABSENT or value is None:
            return
        for element in value if isinstance(value, list) else (value,):
            yield from self.scopes((*before, element), at + 1)


def look_up(value: Any, name: str) -> Any:
    """Returns what an object has under a dotted name: a field of that name, or of objects in it. ABSENT if nothing."""
    if not isinstance(value, dict):
        return ABSENT
    if name in value:
        return value[name]
    at = name.find(".")
    while at >= 0:
        inner = value.get(name[:at], ABSENT)
        if inner is not ABSENT and (one := look_up(inner, name[at + 1 :])) is not ABSENT:
            return one
        at = name.find(".", at + 1)
    return ABSENT


def _check_names(name: str, text: str) -> str:
    names = name.split(".")
    if not all(part.strip() for part in names) or EACH in name or ROOT in name:
        raise ValueError(f"{text!r} is no path: expected names with dots between them, such as position.latitude")
    if len(names) > MAX_NAMES:
        raise ValueError(f"{text!r} has {len(names)} names, at most {MAX_NAMES} are taken")
    return name
