"""Adds up what `pip install` of a distribution has brought into this environment, from the metadata of what is
installed. It asks no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Find = Callable[[str], Distribution | None]


class Share(NamedTuple):
    """One distribution: the files that its RECORD lists and that exist, and the bytes in them."""

    name: str
    version: str
    files: int
    size_bytes: int


@dataclass(frozen=True)
class Install:
    """All that one `pip install` asks for."""

    asked: str  # as for pip, such as pathcast[demo]
    shares: Sequence[Share]  # the largest first
    absent: Sequence[str]  # required, but not installed here: they are missing in the sizes
    editable: Sequence[str]  # whose RECORD lists only a link to a checkout

    @property
    def files(self) -> int:
        return sum(share.files for share in self.shares)

    @property
    def size_bytes(self) -> int:
        return sum(share.size_bytes for share in self.shares)


def found(name: str) -> Distribution | None:
    """Returns the distribution that is installed under this name; None if there is none."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def install(name: str, extras: Sequence[str] = (), *, checkout: Sequence[Path] = (), find: Find = found) -> Install:
    """Returns what `pip install name[extras]` brings.

    Args:
        checkout: the folders of the packages of `name`. Their files without bytecode count where it is installed in
            editable mode.

    Raises ValueError if `name` is not installed, or if a distribution has no RECORD or a requirement that cannot be
    read.
    """
    distributions, absent = closure(name, extras, find)
    editable = [_name(one) for one in distributions if _is_editable(one)]
    shares = [
        share_of(one, checkout if _name(one) == canonicalize_name(name) and _name(one) in editable else ())
        for one in distributions
    ]
    shares.sort(key=lambda share: -share.size_bytes)
    return Install(f"{name}[{','.join(extras)}]" if extras else name, shares, absent, editable)


def closure(name: str, extras: Iterable[str], find: Find = found) -> tuple[list[Distribution], list[str]]:
    """Follows the requirements from `name` on, as far as their markers hold in this interpreter.

    Returns the installed distributions, each once, and the names of those that are required and not installed. Versions
    are not compared. Raises ValueError if `name` itself is not installed.
    """
    if find(name) is None:
        raise ValueError(f"{name} is not installed in this environment, so there is nothing to add up")
    waiting = [(canonicalize_name(name), extra) for extra in ("", *extras)]
    visited: set[tuple[str, str]] = set()
    distributions: dict[str, Distribution] = {}
    absent: list[str] = []
    while waiting:
        wanted = waiting.pop()
        if wanted in visited:
            continue
        visited.add(wanted)
        one, extra = wanted
        known = find(one)
        if known is None:
            if not extra:
                absent.append(one)
            continue
        distributions[one] = known
        for line in known.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                required = canonicalize_name(requirement.name)
                waiting += [(required, more) for more in ("", *requirement.extras)]
    return list(distributions.values()), sorted(absent)


def share_of(one: Distribution, also: Iterable[Path] = ()) -> Share:
    """Returns the files of a distribution and their bytes, and those in the folders `also`, without bytecode.

    Raises ValueError if it has no RECORD.
    """
    if one.files is None:
        raise ValueError(f"{_name(one)} {one.version} has no RECORD, so its files are unknown: did pip install it?")
    paths = [Path(str(path.locate())) for path in one.files]
    paths += [path for folder in also for path in folder.rglob("*") if "__pycache__" not in path.parts]
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return Share(_name(one), one.version, len(sizes), sum(sizes))


def _name(one: Distribution) -> str:
    return canonicalize_name(one.metadata["Name"])


def _is_editable(one: Distribution) -> bool:
    """Returns whether it is installed in editable mode (PEP 610)."""
    text = one.read_text("direct_url.json")
    return text is not None and bool(json.loads(text).get("dir_info", {}).get("editable", False))
