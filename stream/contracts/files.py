"""Writes the files of the released schemas, and checks them.

    schemas/json/NAME.v1.json    JSON Schema
    schemas/avro/NAME.v1.avsc    Avro, of all records but headers
    asyncapi.yaml                topics, keys, headers and messages

The released schemas are those that are committed. So a file is never overwritten by one that breaks somebody: such a
change needs a new version, beside the old one.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from stream.contracts.asyncapi import asyncapi_text
from stream.contracts.avro_schema import avro_schema
from stream.contracts.catalog import RECORDS, Way
from stream.contracts.compatibility import Break, avro_breaks, breaks
from stream.contracts.json_schema import Schema, dump_schema, json_schema

ASYNCAPI: Final = Path("asyncapi.yaml")
FOLDERS: Final = {"json": Path("schemas/json"), "avro": Path("schemas/avro")}
DEFAULT: Final = Path(__file__).parents[2] / "deploy"  # in a clone
GIT_S: Final = 30.0
# Breaks of what 0.2.0 has released. They take away what only shadows had, weights that answered nobody, and whoever has
# the old schemas reads all records of today. Once a later release has the new schemas, these lines may go.
TAKEN_BACK: Final = {
    ("score.v1.json", "shadow: it was removed, or renamed"),
    ("weights_version.v1.json", "role: its enum was ['all', 'canary', 'shadow'] and is ['all', 'canary']"),
}


class File(NamedTuple):
    """One schema file as the code makes it."""

    path: Path  # in the folder
    schema: Schema
    way: Way
    compare: Callable[[Schema, Schema, Way], list[Break]]


class Finding(NamedTuple):
    """A fault of one file."""

    path: Path
    what: str
    broken: bool  # somebody would break; else it is only to be written anew


def make_files() -> list[File]:
    """Returns all schema files as the code makes them."""
    made = []
    for one in RECORDS:
        made.append(File(FOLDERS["json"] / f"{one.schema_name}.json", json_schema(one), one.way, breaks))
        if not one.headers_only:
            made.append(File(FOLDERS["avro"] / f"{one.schema_name}.avsc", avro_schema(one), one.way, avro_breaks))
    return made


def released_folder(given: Path | None) -> Path:
    """Returns the folder of the released schemas. Raises ValueError if none is given and this is no clone."""
    if given is None and not (DEFAULT / "README.md").exists():
        raise ValueError("there are no released schemas beside this installation: give their folder, --dir")
    return given or DEFAULT


def write(where: Path) -> list[Path]:
    """Writes all files that are not there or differ, and returns them.

    Raises ValueError if a released schema would change so that somebody breaks; then nothing is written.
    """
    if broken := "; ".join(f"{one.path.name}: {one.what}" for one in _breaks(where)):
        raise ValueError(f"nothing was written, as this would break who uses the released schemas: {broken}")
    differing = {path: text for path, text in _texts() if _read(where / path) != text}
    for path, text in differing.items():
        (where / path).parent.mkdir(parents=True, exist_ok=True)
        (where / path).write_text(text)
    return list(differing)


def check(where: Path, against: str | None = None) -> list[Finding]:
    """Returns what is wrong with the files: those that differ from what the code makes, and those whose difference
    would break somebody.

    With `against`, a commit of git, what is released is what that commit has: so a change that rewrites a released
    file is found, too. Raises ValueError if there is no such commit.
    """
    findings = []
    for path, text in _texts():
        if (there := _read(where / path)) != text:
            what = "is absent" if there is None else "is not what the code makes"
            findings.append(Finding(path, f"{what}: pathcast dev contracts write", broken=False))
    with TemporaryDirectory() as folder:
        released = where if against is None else _extract(where, against, Path(folder))
        return [*findings, *_breaks(released), *_removed(released)]


def _texts() -> Iterator[tuple[Path, str]]:
    """Yields every file with its text."""
    yield from ((one.path, dump_schema(one.schema)) for one in make_files())
    yield ASYNCAPI, asyncapi_text()


def _breaks(released: Path) -> Iterator[Finding]:
    for one in make_files():
        if (text := _read(released / one.path)) is not None:
            for change in one.compare(json.loads(text), one.schema, one.way):
                if (one.path.name, str(change)) not in TAKEN_BACK:
                    yield Finding(one.path, str(change), broken=True)


def _removed(released: Path) -> Iterator[Finding]:
    """Yields the released schemas that no record has any more."""
    made = {one.path for one in make_files()}
    for folder in FOLDERS.values():
        for file in sorted(released.glob(f"{folder}/*")):
            if folder / file.name not in made:
                yield Finding(folder / file.name, "its record was removed, or renamed", broken=True)


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _extract(where: Path, commit: str, into: Path) -> Path:
    """Writes the schemas that a commit has in a folder into another, and returns that."""
    command = ["git", "archive", commit, "schemas"]
    done = subprocess.run(command, cwd=where, capture_output=True, timeout=GIT_S, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ValueError(f"git knows no commit {commit!r} in {where}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(into, filter="data")
    return into
