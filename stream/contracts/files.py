"""The files of the released schemas: what they are called, whether they are what the code says, and writing them.

    schemas/json/NAME.v1.json    JSON Schema
    schemas/avro/NAME.v1.avsc    Avro, of all records but headers
    asyncapi.yaml                topics, keys, headers and messages

The released schemas are those that are committed. So a file is never overwritten by one that breaks somebody: such a
change needs a new version, beside the old one.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from stream.contracts.asyncapi import asyncapi_text
from stream.contracts.avro_schema import avro_schema
from stream.contracts.catalog import RECORDS, Way
from stream.contracts.compatibility import Break, avro_breaks, breaks
from stream.contracts.json_schema import Schema, json_schema, text_of

ASYNCAPI: Final = Path("asyncapi.yaml")
FOLDERS: Final = {"json": Path("schemas/json"), "avro": Path("schemas/avro")}
DEFAULT: Final = Path(__file__).parents[2] / "deploy"  # in a clone
GIT_S: Final = 30.0
# Breaks of what 0.2.0 has released. They take away what only shadows had, weights that answered nobody, and whoever has
# the old schemas reads all records of today. Once a later release has the new schemas, these lines may go.
TAKEN_BACK: Final = {
    ("score.v1.json", "shadow: it was removed, or renamed"),
    ("weights_version.v1.json", "role: its words were all or canary or shadow and are all or canary"),
}


class File(NamedTuple):
    """One schema file as the code makes it."""

    path: Path  # in the folder
    schema: Schema
    way: Way
    compare: Callable[[Schema, Schema, Way], list[Break]]

    @property
    def text(self) -> str:
        return text_of(self.schema)


class Found(NamedTuple):
    """What is wrong with one file."""

    path: Path
    what: str
    broken: bool  # somebody would break; else it is only to be written anew


def files() -> list[File]:
    """Returns all schema files as the code makes them."""
    found = []
    for one in RECORDS:
        found.append(File(FOLDERS["json"] / f"{one.schema_name}.json", json_schema(one), one.way, breaks))
        if not one.headers_only:
            found.append(File(FOLDERS["avro"] / f"{one.schema_name}.avsc", avro_schema(one), one.way, avro_breaks))
    return found


def folder(given: Path | None) -> Path:
    """Returns the folder of the released schemas. Raises ValueError if none is given and this is no clone."""
    if given is None and not (DEFAULT / "README.md").exists():
        raise ValueError("there are no released schemas beside this installation: give their folder, --dir")
    return given or DEFAULT


def write(where: Path) -> list[Path]:
    """Writes all files that are not there or differ, and returns them.

    Raises ValueError if a released schema would change so that somebody breaks; then nothing is written.
    """
    made = files()
    if wrong := [found for one in made for found in _judged(one, _read(where / one.path)) if found.broken]:
        said = "; ".join(f"{one.path.name}: {one.what}" for one in wrong)
        raise ValueError(f"nothing was written, as this would break who uses the released schemas: {said}")
    written = []
    for path, text in [*((one.path, one.text) for one in made), (ASYNCAPI, asyncapi_text())]:
        if _read(where / path) != text:
            (where / path).parent.mkdir(parents=True, exist_ok=True)
            (where / path).write_text(text)
            written.append(path)
    return written


def check(where: Path, against: str | None = None) -> list[Found]:
    """Returns what is wrong with the files: those that differ from what the code makes, and those whose difference
    would break somebody.

    With `against`, a commit of git, what is released is what that commit has: so a change that rewrites a released
    file is found, too. Raises ValueError if there is no such commit.
    """
    found = list(_differing(where))
    for one in files():
        released = _read(where / one.path) if against is None else _committed(where / one.path, against)
        found += (wrong for wrong in _judged(one, released) if wrong.broken)
    return [*found, *_removed(where, against)]


def _differing(where: Path) -> Iterator[Found]:
    for path, text in [*((one.path, one.text) for one in files()), (ASYNCAPI, asyncapi_text())]:
        there = _read(where / path)
        if there != text:
            what = "is absent" if there is None else "is not what the code makes"
            yield Found(path, f"{what}: pathcast dev contracts write", broken=False)


def _removed(where: Path, against: str | None) -> Iterator[Found]:
    """Yields the released schemas that no record has any more."""
    made = {one.path for one in files()}
    for name in FOLDERS.values():
        there = _listed(where / name, against) if against is not None else sorted(where.glob(f"{name}/*"))
        for path in there:
            if (name / path.name) not in made:
                yield Found(name / path.name, "its record was removed, or renamed", broken=True)


def _judged(one: File, released: str | None) -> Iterator[Found]:
    if released is None or released == one.text:
        return
    for found in one.compare(json.loads(released), one.schema, one.way):
        if (one.path.name, str(found)) not in TAKEN_BACK:
            yield Found(one.path, str(found), broken=True)


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _committed(path: Path, commit: str) -> str | None:
    done = _git(path.parent, "show", f"{commit}:./{path.name}")
    return done.stdout if done.returncode == 0 else None


def _listed(where: Path, commit: str) -> list[Path]:
    """Returns the files of a folder in a commit."""
    done = _git(where.parent.parent, "ls-tree", "--name-only", commit, f"./{where.relative_to(where.parent.parent)}/")
    if done.returncode:
        raise ValueError(f"git knows no commit {commit!r} in {where}: {done.stderr.strip()}")
    return [Path(line) for line in done.stdout.splitlines()]


def _git(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=GIT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
