"""Reads and writes manifests of versions, as JSON, within the bounds that a stranger's manifest is held to.

A manifest names every file of the version with its length and SHA-256, and `content` is the SHA-256 of all of that. So
whoever has a manifest can tell whether the files are the ones that were published. Nothing proves who wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec

Kind = Literal["weights", "atlas"]
KINDS: Final[tuple[Kind, ...]] = ("weights", "atlas")

MAX_MANIFEST_BYTES: Final = 1 << 20  # metrics of every horizon and stratum are some 20 KB
MAX_FILES: Final = 16
# Of all files of a version: the reader of weights takes 1 GiB of tensors, an atlas of a large fleet has some 2 GB.
MAX_BYTES: Final[Mapping[Kind, int]] = {"weights": (1 << 30) + (1 << 24), "atlas": 1 << 35}

CONFIG: Final = "config.json"
CARD: Final = "README.md"
TENSORS: Final = "model.safetensors"
GOLDEN: Final = "golden.json"  # optional: stream.registry.golden
WEIGHTS_FILES: Final = (CONFIG, TENSORS, CARD)

VERSION: Final = r"^[0-9a-f]{16}\Z"
# One component, so that no name leads out of the version's folder.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Version = Annotated[str, msgspec.Meta(pattern=VERSION)]
_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Short = Annotated[str, msgspec.Meta(max_length=200)]
_Long = Annotated[str, msgspec.Meta(max_length=20_000)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]  # ms UTC, to the end of the year 9999


class RegistryError(ValueError):
    """The registry cannot do that. The message is one clear line."""


class NotFound(RegistryError):
    """There is no such version."""


class Ambiguous(RegistryError):
    """Several versions begin with that."""


class Damaged(RegistryError):
    """A version is not what its manifest says, or its manifest is none."""


class Conflict(RegistryError):
    """The version exists already, with other files."""


class File(msgspec.Struct, frozen=True):
    """One file of a version."""

    bytes: _Count
    sha256: _Hash


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The data that a version was made from. Unknown fields are None."""

    fingerprint: _Short | None = None  # a hash of the pings
    sources: tuple[_Short, ...] = ()
    from_ts: _Time | None = None  # ms UTC
    to_ts: _Time | None = None
    pings: _Count | None = None
    entities: _Count | None = None


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The statements of a publisher about a version."""

    name: _Short = ""  # empty: the name in the config of weights; "atlas" of an atlas
    parent: Version | None = None  # what it was refreshed from
    command: _Long = ""  # the line that makes it again
    seed: int | None = None
    data: Data = Data()
    metrics: dict[str, Any] = {}  # numbers, nested as their publisher likes
    note: _Long = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One version. It never changes."""

    format: Literal[1] = 1
    kind: Kind
    name: _Short
    version: Version
    parent: Version | None
    created_ts: _Time  # ms UTC
    content: _Hash  # of all files: `content_of`
    files: dict[str, File]
    command: _Long
    seed: int | None
    program: _Short  # the version of pathcast that published it
    data: Data
    metrics: dict[str, Any]
    note: _Long

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_DECODER: Final = msgspec.json.Decoder(Manifest)


def content_of(files: Mapping[str, File]) -> str:
    """Returns the SHA-256 of the names, lengths and hashes of all files."""
    lines = (f"{name} {file.bytes} {file.sha256}\n" for name, file in sorted(files.items()))
    return sha256("".join(lines).encode()).hexdigest()


def dumps_manifest(manifest: Manifest) -> bytes:
    """Returns the manifest as JSON for programs and people. Raises RegistryError for one that `loads_manifest` would
    refuse."""
    raw = msgspec.json.format(_ENCODER.encode(manifest), indent=2) + b"\n"
    try:
        loads_manifest(raw, manifest.kind, manifest.version)
    except Damaged as error:
        raise RegistryError(f"this cannot be stated of a version: {error}") from error
    return raw


def loads_manifest(raw: bytes, kind: Kind, version: str) -> Manifest:
    """Returns the manifest of that version. Raises Damaged for bytes that are none, or another's."""
    where = f"the manifest of {kind} {version}"
    if len(raw) > MAX_MANIFEST_BYTES:
        raise Damaged(f"{where} has more than {MAX_MANIFEST_BYTES:,} bytes")
    try:
        found = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{where} cannot be read ({error}): is it of a newer version of pathcast?") from error
    if (found.kind, found.version) != (kind, version):
        raise Damaged(f"{where} is that of {found.kind} {found.version}")
    if (reason := _wrong_files(found)) is not None:
        raise Damaged(f"{where} {reason}")
    return found


def _wrong_files(manifest: Manifest) -> str | None:
    files = manifest.files
    if len(files) > MAX_FILES:
        return f"names {len(files)} files, at most {MAX_FILES} are read"
    for name in files:
        if _NAME.fullmatch(name) is None:
            return f"names a file {name!r:.120}, which is no plain file name"
    needed = WEIGHTS_FILES if manifest.kind == "weights" else (atlas_file(manifest.version),)
    if missing := [name for name in needed if name not in files]:
        return f"names no {missing[0]}"
    if manifest.bytes > MAX_BYTES[manifest.kind]:
        return f"names {manifest.bytes:,} bytes of files, at most {MAX_BYTES[manifest.kind]:,} are read"
    if content_of(files) != manifest.content:
        return "has a content hash that is not that of its files"
    return None


def atlas_file(version: str) -> str:
    """Returns the name of an atlas's file, which is also its name in a worker's directory of atlases."""
    return f"{version}.atlas"
