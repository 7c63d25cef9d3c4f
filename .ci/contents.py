"""Checks what a wheel and an sdist hold, against the tree that they were built from. Needs nothing but Python.

python .ci/contents.py version [--rehearse] TREE   the version, if CHANGELOG.md describes it
python .ci/contents.py check DIST TREE             one wheel and one sdist in DIST
"""

from __future__ import annotations

import configparser
import re
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

PACKAGES = ("model", "stream", "train")
# What pyproject.toml includes by force: it is in its new place in a wheel, and no more in its own.
MOVED = {"stream/__main__.py": "pathcast/__main__.py"}
INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
# What an installation cannot do without and no import would miss: the weights with their cards, which hold their
# licence, the credit of the demo's sample, and the marks of types.
NEEDED = (
    *(
        f"model/weights/{name}/{file}"
        for name in ("small", "small-research")
        for file in ("model.safetensors", "config.json", "README.md")
    ),
    "stream/demo/sample/austin_buses.csv.gz",
    "stream/demo/sample/README.md",
    *(f"{package}/py.typed" for package in PACKAGES),
)
PAGE = "stream/api/map/page/"  # of the map, where this tree has one
SDIST = (
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "pyproject.toml",
    "deploy/constraints.txt",
    "tests/conftest.py",
)


def version(tree: Path, *, rehearse: bool) -> str:
    """Returns the version of pyproject.toml. Its section of CHANGELOG.md must be the newest one, and must be dated
    unless this is a rehearsal."""
    stated = str(tomllib.loads((tree / "pyproject.toml").read_text())["project"]["version"])
    sections = re.findall(
        r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", (tree / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    newest = [one for one in sections if one[0] != "Unreleased"][:1]
    if not newest or newest[0][0] != stated:
        raise SystemExit(f"pyproject.toml says {stated}; the newest section of CHANGELOG.md is {newest or 'missing'}")
    if not rehearse and not newest[0][1]:
        raise SystemExit(f"the section of {stated} in CHANGELOG.md has no date")
    return stated


def check(dist: Path, tree: Path) -> list[str]:
    """Returns what is wrong, a line each."""
    wheels, sdists = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    if (len(wheels), len(sdists)) != (1, 1):
        return [f"{dist} has {len(wheels)} wheels and {len(sdists)} sdists, expected one of each"]
    stated = version(tree, rehearse=True)
    return [*_of_wheel(wheels[0], tree, stated), *_of_sdist(sdists[0], tree, stated)]


def _of_wheel(path: Path, tree: Path, stated: str) -> list[str]:
    with zipfile.ZipFile(path) as wheel:
        found = {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    info = f"pathcast-{stated}.dist-info/"
    sources = {MOVED.get(name, name): name for name in _files(tree, PACKAGES)}
    expected = {name: (tree / source).read_bytes() for name, source in sources.items()}
    about = {f"{info}{name}" for name in INFO}
    wrong = [f"the wheel lacks {name}" for name in sorted((expected.keys() | about) - found.keys())]
    wrong += [
        f"the wheel holds {name}, which no package has" for name in sorted(found.keys() - expected.keys() - about)
    ]
    wrong += [
        f"{name} differs from the tree"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    wrong += [f"the wheel lacks {name}, which must be in it" for name in NEEDED if name not in found]
    if (tree / "stream" / "api" / "map").is_dir() and f"{PAGE}index.html" not in found:
        wrong.append(f"the wheel lacks the page of the map, {PAGE}index.html")
    wrong += [
        f"the wheel lacks the module of the entry point {value}"
        for value in _entry_points(found.get(f"{info}entry_points.txt", b""))
        if not _has(found, value)
    ]
    if found.get(f"{info}licenses/LICENSE") != (tree / "LICENSE").read_bytes():
        wrong.append("the wheel's licence is not that of the tree")
    print(f"{path.name}: {len(found)} files, {path.stat().st_size / 1e6:.1f} MB")
    return wrong


def _of_sdist(path: Path, tree: Path, stated: str) -> list[str]:
    prefix = f"pathcast-{stated}/"
    with tarfile.open(path) as sdist:
        found = {member.name.removeprefix(prefix) for member in sdist if member.isfile() or member.issym()}
    needed = {*_files(tree, (*PACKAGES, "tests", "deploy", "reports")), *SDIST}
    print(f"{path.name}: {len(found)} files, {path.stat().st_size / 1e6:.1f} MB")
    return [f"the sdist lacks {name}" for name in sorted(needed - found)]


def _files(tree: Path, folders: tuple[str, ...]) -> list[str]:
    paths = (path for folder in folders for path in (tree / folder).rglob("*"))
    return [path.relative_to(tree).as_posix() for path in paths if path.is_file() and "__pycache__" not in path.parts]


def _entry_points(text: bytes) -> list[str]:
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.read_string(text.decode())
    return [value for section in parser.sections() for value in parser[section].values()]


def _has(found: dict[str, bytes], value: str) -> bool:
    at = value.partition(":")[0].replace(".", "/")
    return f"{at}.py" in found or f"{at}/__init__.py" in found


def main(arguments: list[str]) -> None:
    match arguments:
        case ["version", "--rehearse", tree]:
            print(version(Path(tree), rehearse=True))
        case ["version", tree]:
            print(version(Path(tree), rehearse=False))
        case ["check", dist, tree]:
            if wrong := check(Path(dist), Path(tree)):
                raise SystemExit("\n".join(wrong))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
