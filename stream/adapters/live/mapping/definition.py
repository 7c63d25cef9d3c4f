"""Reads the file of a map, in TOML or JSON, and says what is wrong with it.

name = "mine"
positions = "data[].gps[]"                    # where the positions are; without it, the message is one or an array
only = {event = ["moved", "parked"]}          # messages with another value there are skipped
skip_without = "lat"                          # positions that lack it are skipped, and are no error
[fields]
entity_id = "../id"
ts = {path = "time", unit = "s"}
lat = {path = "lat", unit = "1e-7 deg"}
lon = {path = "lon", unit = "1e-7 deg"}
speed_mps = [{path = "mph", unit = "mph", absent = [-1]}, {path = "kph", unit = "km/h"}]    # the first that is there
[constants]
category = "truck"
[attrs]
driver = "../driver.name"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path as File
from typing import Any, Final, Literal, NamedTuple

import msgspec

from stream.adapters.live.mapping.paths import Path, Steps
from stream.adapters.live.mapping.units import UNITS, Convert
from stream.wire import MAX_ATTRS, MAX_TEXT_CHARS, REQUIRED

MAX_FILE_BYTES: Final = 256 * 1024  # a map is a page long
SUFFIXES: Final = (".toml", ".json")

Scalar = str | int | float | bool


class MapError(ValueError):
    """A map cannot be used. The text names the map, the key, and what was expected."""


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """States how a sender signs its messages: by an HMAC, in a header. The secret is not here."""

    header: str
    hash: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""  # of the header's value
    message: str = "{body}"  # what is signed; {X-Name} stands for the value of that header
    secret: Literal["text", "base64"] = "text"  # how the secret is written


class _Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str | list[str]
    unit: str | None = None
    absent: list[Scalar] = []


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    fields: dict[str, str | _Field | list[str | _Field]]
    about: str = ""
    positions: str | list[str] = []
    only: dict[str, Scalar | list[Scalar]] = {}
    skip_without: str | None = None
    constants: dict[str, Scalar] = {}
    attrs: dict[str, str | list[str]] = {}
    signed: Signed | None = None


class SourcePath(NamedTuple):
    """A path, how its value is converted, and the values there that mean absent."""

    path: Path
    convert: Convert
    absent: tuple[Scalar, ...] = ()


class FieldMapping(NamedTuple):
    """States where a field of a ping comes from: the first place that has something."""

    places: tuple[SourcePath, ...]

    @property
    def text(self) -> str:
        return " or ".join(place.path.text for place in self.places)


class MessageMap(NamedTuple):
    """A map that was checked."""

    name: str
    about: str
    positions: tuple[Steps, ...]  # empty: the message itself
    only: Mapping[Path, tuple[Scalar, ...]]
    skip_without: Path | None
    fields: Mapping[str, FieldMapping]
    constants: Mapping[str, Any]
    attrs: Mapping[str, FieldMapping]
    signed: Signed | None


def load(file: File) -> MessageMap:
    """Reads a map from a file. Raises MapError, and OSError if the file cannot be read."""
    if file.suffix.lower() not in SUFFIXES:
        raise MapError(f"{file}: a map's name ends in {' or '.join(SUFFIXES)}")
    with file.open("rb") as opened:
        raw = opened.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise MapError(f"{file} is larger than {MAX_FILE_BYTES:,} bytes, too large for a map")
    return parse(raw, str(file), json=file.suffix.lower() == ".json")


def parse(raw: bytes, where: str, *, json: bool = False) -> MessageMap:
    """Parses the bytes of a map; `where` names it in errors. Raises MapError."""
    try:
        file = msgspec.json.decode(raw, type=_File) if json else msgspec.toml.decode(raw, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise MapError(f"{where}: {_describe_error(error)}") from error
    try:
        return _check_map(file)
    except ValueError as error:
        raise MapError(f"{where}: {error}") from error


def _check_map(file: _File) -> MessageMap:
    if not _is_slug(file.name):
        raise ValueError(f"name is {file.name!r}, expected lower-case letters, digits and hyphens, at most 64")
    fields = {name: _make_field(name, given) for name, given in file.fields.items()}
    for name in file.constants:
        _check_field(name, "constants")
        if name in fields:
            raise ValueError(f"{name} is in fields and in constants")
    if absent := [name for name in REQUIRED if name not in fields and name not in file.constants]:
        raise ValueError(f"fields has no {' and no '.join(absent)}: every ping needs {', '.join(REQUIRED)}")
    if long := [name for name, one in file.constants.items() if isinstance(one, str) and len(one) > MAX_TEXT_CHARS]:
        raise ValueError(f"constants.{long[0]} is longer than {MAX_TEXT_CHARS} characters")
    if len(file.attrs) > MAX_ATTRS:
        raise ValueError(f"attrs has {len(file.attrs)} names, at most {MAX_ATTRS} are kept")
    return MessageMap(
        file.name,
        file.about,
        tuple(_parse_steps(file.positions)),
        {_parse_path(path, "only"): tuple(_as_list(values)) for path, values in file.only.items()},
        None if file.skip_without is None else _parse_path(file.skip_without, "skip_without"),
        fields,
        {"source": file.name, **file.constants} if "source" not in fields else dict(file.constants),
        {name: _make_attr(name, paths) for name, paths in file.attrs.items()},
        _check_signature(file.signed),
    )


def _make_field(name: str, given: str | _Field | list[str | _Field]) -> FieldMapping:
    _check_field(name, "fields")
    found = [place for one in _as_list(given) for place in _make_places(name, one)]
    if not found:
        raise ValueError(f"fields.{name} is empty")
    return FieldMapping(tuple(found))


def _make_places(name: str, given: str | _Field) -> Iterator[SourcePath]:
    key, units = f"fields.{name}", UNITS[name]
    if not isinstance(given, _Field):
        given = _Field(given)
    unit = next(iter(units)) if given.unit is None else given.unit
    if unit not in units:
        known = ", ".join(filter(None, units))
        expected = f"known are {known}" if known else f"{name} has none"
        raise ValueError(f"{key}.unit is {unit!r}; {expected}{_suggest(unit, units)}")
    for text in _as_list(given.path):
        yield SourcePath(_parse_path(text, f"{key}.path"), units[unit], tuple(given.absent))


def _make_attr(name: str, given: str | list[str]) -> FieldMapping:
    found = tuple(SourcePath(_parse_path(text, f"attrs.{name}"), lambda value: value) for text in _as_list(given))
    if not found:
        raise ValueError(f"attrs.{name} is empty")
    return FieldMapping(found)


def _check_field(name: str, table: str) -> None:
    if name not in UNITS:
        beside = "; use the table attrs for what else to keep" if table == "fields" else ""
        raise ValueError(f"{table}.{name}: a ping has no such field{_suggest(name, UNITS)}{beside}")


def _parse_steps(given: str | list[str]) -> Iterator[Steps]:
    for text in _as_list(given):
        if text:
            try:
                yield Steps.parse(text)
            except ValueError as error:
                raise ValueError(f"positions: {error}") from error


def _parse_path(text: str, key: str) -> Path:
    try:
        return Path.parse(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _check_signature(given: Signed | None) -> Signed | None:
    if given is not None and "{body}" not in given.message:
        raise ValueError(f"signed.message is {given.message!r}, which has no {{body}}: it would sign nothing")
    if given is not None and not given.header:
        raise ValueError("signed.header is empty")
    return given


def _as_list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _is_slug(name: str) -> bool:
    return 0 < len(name) <= 64 and name.isascii() and name == name.lower() and name.replace("-", "a").isalnum()


def _suggest(name: str, names: Mapping[str, Any]) -> str:
    near = get_close_matches(name, names, 1)
    return f"; is {near[0]} meant?" if near else ""


def _describe_error(error: Exception) -> str:
    """Returns msgspec's text, whose `$.fields.ts` is the key, in one line."""
    return " ".join(str(error).split()).replace("`$.", "`")
