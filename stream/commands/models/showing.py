"""The commands that show a registry: `pathcast models list`, `show` and `diff`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import typer

from model.api import load_weights
from stream.commands.models import tables
from stream.config.options import Json, RegistryCache, RegistryUrl, quiet
from stream.config.security import shown
from stream.registry import KINDS, Ambiguous, Kind, Manifest, NotFound, Registry, standings


class Distance(NamedTuple):
    """One tensor of both. Where the shapes differ, or only one has it, no number is known."""

    name: str
    relative: float | None  # the length of the difference, as a part of the first one's length; None if that is 0
    most: float | None  # the largest difference of a number
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]


def distances(before: Path, after: Path) -> list[Distance]:
    """Returns the distance of every tensor, the farthest first, after those of which it is not known."""
    first, second = (load_weights(folder).tensors for folder in (before, after))
    found = []
    for name in sorted(first.keys() | second.keys()):
        a, b = first.get(name), second.get(name)
        shapes = (None if a is None else a.shape, None if b is None else b.shape)
        if a is None or b is None or a.shape != b.shape:
            found.append(Distance(name, None, None, shapes))
            continue
        apart, length = b.astype(np.float64) - a, float(np.linalg.norm(a.astype(np.float64)))
        most = float(np.abs(apart).max(initial=0.0))
        # A tensor of zeros that stays so has not moved; one that leaves zero has moved by no part of it.
        relative = float(np.linalg.norm(apart)) / length if length else 0.0 if most == 0.0 else None
        found.append(Distance(name, relative, most, shapes))
    return sorted(found, key=lambda one: -np.inf if one.relative is None else -one.relative)


VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="a version, or how it begins")]
KindOption = Annotated[str | None, typer.Option("--kind", help="weights or atlas; default: both")]


def list_versions(
    registry: RegistryUrl,
    kind: KindOption = None,
    decisions: Annotated[
        bool,
        typer.Option("--decisions", help="instead: what was decided, when, by which program, from which numbers, why"),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the versions, the newest last: what each was made from, how good it is, and what it is now by the decisions.

    [bold]Examples[/]

      pathcast models list --registry /srv/pathcast
      pathcast models list --registry s3://bucket/pathcast --kind weights --json
      pathcast models list --registry /srv/pathcast --decisions
    """
    if decisions:
        _list_decisions(registry, kind, as_json=as_json)
        return
    opened, now_ms = Registry.opened(registry), round(time.time() * 1000)
    with quiet():
        found = [one for each in kinds(kind) for one in opened.manifests(each)]
        now = standings(opened.decisions())
        if as_json:
            stated = [{**_plain(one), "now": now.get((one.kind, one.version))} for one in found]
            typer.echo(msgspec.json.encode(stated))
        elif not found:
            _say_none("versions", "published", registry, opened, kind)
        else:
            _print([tables.HEADINGS, *tables.rows(found, now, now_ms)])


def show(version: VersionArgument, registry: RegistryUrl, kind: KindOption = None, as_json: Json = False) -> None:
    """Show all that is stated of a version, and what was decided of it."""
    opened = Registry.opened(registry)
    with quiet():
        manifest = find(opened, version, kind)
        decisions = [one for one in opened.decisions() if (one.kind, one.version) == (manifest.kind, manifest.version)]
        if as_json:
            typer.echo(msgspec.json.encode({**_plain(manifest), "decisions": decisions}))
            return
        _print(tables.fields(manifest))
        if decisions:
            typer.echo()
            _print([tables.decided(one) for one in decisions])


def diff(
    before: Annotated[str, typer.Argument(metavar="VERSION", help="a version, or how it begins")],
    after: Annotated[str, typer.Argument(metavar="OTHER", help="the version to compare it with")],
    registry: RegistryUrl,
    cache: RegistryCache = None,
    kind: KindOption = None,
    most: Annotated[int, typer.Option("--most", min=0, help="tensors to show, those that moved farthest")] = 20,
    as_json: Json = False,
) -> None:
    """Show what two versions state differently, and how far their weights lie apart, tensor by tensor.

    `pathcast models atlas` compares what atlases have counted.
    """
    opened = Registry.opened(registry, cache)
    with quiet():
        one, other = find(opened, before, kind), find(opened, after, kind)
        if one.kind != other.kind:
            raise typer.BadParameter(f"{one.version} is {one.kind}, and {other.version} is {other.kind}")
        stated = tables.side_by_side(one, other)
        apart = _apart(opened, one, other) if one.kind == "weights" else []
        if as_json:
            typer.echo(msgspec.json.encode({"stated": stated, "tensors": [each._asdict() for each in apart]}))
            return
        _print([("", one.version, other.version), *stated])
        if apart:
            cells = [(each.name, _number(each.relative), _number(each.most), _shapes(each)) for each in apart[:most]]
            typer.echo()
            _print([("tensor", "moved by", "at most", "shape"), *cells])
            if len(apart) > most:
                typer.echo(f"and {len(apart) - most} tensors that moved less (--most)")


def _list_decisions(registry: str, kind: str | None, *, as_json: bool) -> None:
    opened, wanted = Registry.opened(registry), kinds(kind)
    with quiet():
        found = [one for one in opened.decisions() if one.kind in wanted]
        if as_json:
            typer.echo(msgspec.json.encode(found))
        elif not found:
            _say_none("decisions", "decided", registry, opened, kind)
        else:
            _print([tables.decided(one) for one in found])


def kinds(kind: str | None) -> tuple[Kind, ...]:
    """Returns the kinds that an option names. Raises Typer's error for another."""
    found = tuple(one for one in KINDS if kind in (None, one))
    if not found:
        raise typer.BadParameter(f"weights or atlas, got {kind!r}", param_hint="--kind")
    return found


def find(registry: Registry, version: str, kind: str | None) -> Manifest:
    """Returns the version of any of these kinds. Raises NotFound and Ambiguous."""
    found = []
    for each in kinds(kind):
        with suppress(NotFound):
            found.append(registry.manifest(each, version))
    if len(found) > 1:
        raise Ambiguous(f"both weights and an atlas have the version {version!r}: which --kind?")
    if not found:
        raise NotFound(f"the registry has no {kind or 'weights and no atlas'} of version {version!r:.40}")
    return found[0]


@contextmanager
def working(text: str) -> Iterator[None]:
    """Shows on a terminal that something is under way that may take long."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


def _apart(registry: Registry, one: Manifest, other: Manifest) -> list[Any]:
    from stream.commands.models.showing import distances

    with working(f"comparing {one.version} with {other.version}"):
        return distances(*(registry.fetch("weights", each.version) for each in (one, other)))


def _plain(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(manifest)
    return found


def _print(cells: Any) -> None:
    for line in tables.aligned(cells):
        typer.echo(line)


def _say_none(what: str, done: str, registry: str, opened: Registry, kind: str | None) -> None:
    """Says where nothing was found, and whether that place exists at all."""
    of = f" of {kind}" if kind else ""
    why = "there is no such directory, is --registry right?" if opened.is_missing else f"nothing was {done} there yet"
    typer.echo(f"no {what}{of} in {shown(registry)}: {why}", err=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _shapes(one: Any) -> str:
    before, after = one.shapes
    return str(list(before)) if before == after else f"{before and list(before)} and {after and list(after)}"
