"""Writes the files of a version with their hashes, and checks them against a manifest and for what they are.

Weights and atlases name themselves: their version is a hash of what is in them. `model.api` is imported only when
one is checked, as it takes a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from model.files import flush
from stream.registry.manifest import CONFIG, Damaged, File, Kind, RegistryError, atlas_file
from stream.storage import pieces


class Identity(NamedTuple):
    """The version and the name that files state of themselves."""

    version: str
    name: str


def write_file(parts: Iterable[bytes], out: Path, most: int) -> File:
    """Writes a new file, flushed to the disk, and returns its length and hash. Raises RegistryError beyond `most`
    bytes, before more are written.
    """
    digest, size = sha256(), 0
    with out.open("xb") as file:
        for part in parts:
            size += len(part)
            if size > most:
                raise RegistryError(f"{out.name} has more than {most:,} bytes")
            digest.update(part)
            file.write(part)
    out.chmod(0o644)
    flush(out)
    return File(size, digest.hexdigest())


def check_files(folder: Path, files: Mapping[str, File]) -> None:
    """Raises Damaged unless the folder has these files."""
    for name, said in files.items():
        path = folder / name
        try:
            if (size := path.stat().st_size) != said.bytes:
                raise Damaged(f"{path} has {size:,} bytes, and its manifest says {said.bytes:,}: was it cut?")
            digest = sha256()
            for piece in pieces(path):
                digest.update(piece)
        except OSError as error:
            raise Damaged(f"{path} cannot be read ({error.strerror or error})") from error
        if digest.hexdigest() != said.sha256:
            raise Damaged(f"{path} has other bytes than its manifest says")


def weights_identity(folder: Path) -> Identity:
    """Returns what these weights are. Raises model.api.WeightsError if no worker could serve them: of wrong shapes, not
    finite, too large.
    """
    from model.api import load_weights

    if not (folder / CONFIG).is_file():  # else "small" could be found by its name
        raise FileNotFoundError(f"{folder} has no {CONFIG}: expected the directory of weights")
    found = load_weights(folder)
    return Identity(found.fingerprint().hex(), found.config.name)


def atlas_identity(path: Path) -> Identity:
    """Returns what this atlas is. Raises model.api.AtlasError for a file that is none, or is damaged."""
    from model.api import Atlas

    return Identity(Atlas.load(path).version, "atlas")


def check_identity(kind: Kind, version: str, folder: Path) -> None:
    """Raises Damaged unless the files are that version."""
    try:
        found = weights_identity(folder) if kind == "weights" else atlas_identity(folder / atlas_file(version))
    except (OSError, ValueError) as error:
        raise Damaged(f"{kind} {version} cannot be served: {error}") from error
    if found.version != version:
        raise Damaged(f"the files of {kind} {version} are those of version {found.version}")
