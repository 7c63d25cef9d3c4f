"""Versions as one tar file, uncompressed, with the names that they have in a local registry.

A tar file may come from a stranger: only regular files with these names are read, no longer than any version, and
nothing is unpacked outside of the folder that was given.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from model.files import writing_whole
from stream.registry.content import write_file
from stream.registry.manifest import MAX_BYTES, MAX_MANIFEST_BYTES, Damaged, Manifest, RegistryError, dumps_manifest
from stream.registry.store import MANIFEST
from stream.storage import PIECE_BYTES

_MANIFEST: Final = re.compile(r"(weights|atlas)/[0-9a-f]{16}/manifest\.json")
_FILE: Final = re.compile(r"(weights|atlas)/[0-9a-f]{16}/[0-9a-f]{64}/[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_MEMBERS: Final = 10_000


def pack(manifest: Manifest, folder: Path, out: Path) -> None:
    """Writes a version, whose files lie in `folder`, as a tar file, whole or not at all. The same version gives the
    same bytes.
    """
    start = f"{manifest.kind}/{manifest.version}"
    with writing_whole(out) as part:
        with tarfile.open(part, mode="x", format=tarfile.PAX_FORMAT) as tar:
            raw = dumps_manifest(manifest)
            tar.addfile(_member(f"{start}/{MANIFEST}", len(raw), manifest), io.BytesIO(raw))
            for name, said in sorted(manifest.files.items()):
                with (folder / name).open("rb") as file:
                    tar.addfile(_member(f"{start}/{manifest.content}/{name}", said.bytes, manifest), file)
        part.chmod(0o644)


def unpack(file: Path, folder: Path) -> None:
    """Writes the versions of a tar file below an empty folder, as a local registry. Nothing is checked but names and
    lengths. Raises Damaged.
    """
    try:
        with tarfile.open(file, mode="r:") as tar:
            for number, member in enumerate(tar):
                if number >= MAX_MEMBERS:
                    raise Damaged(f"{file} has more than {MAX_MEMBERS:,} members")
                _unpack_one(tar, member, folder)
    except (tarfile.TarError, RegistryError, FileExistsError, EOFError) as error:
        raise Damaged(f"{file} is no archive of versions: {error}") from error


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    if member.isdir():  # as other programs write them; folders are made with their files
        return
    if _MANIFEST.fullmatch(member.name):
        most = MAX_MANIFEST_BYTES
    elif _FILE.fullmatch(member.name):
        most = max(MAX_BYTES.values())
    else:
        raise Damaged(f"it has {member.name!r:.120}, which is no name of a version's file")
    source = tar.extractfile(member) if member.isreg() else None
    if source is None:
        raise Damaged(f"{member.name} in it is no regular file")
    target = folder / member.name
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(_pieces(source), target, most)


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    while piece := source.read(PIECE_BYTES):
        yield piece


def _member(name: str, size: int, manifest: Manifest) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, manifest.created_ts // 1000, 0o644
    return member
