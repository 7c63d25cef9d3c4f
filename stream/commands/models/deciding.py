"""The commands that change what serves: `pathcast models publish`, `promote`, `canary`, `stop` and `rollback`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated

import typer

from stream.commands.models.showing import VersionArgument
from stream.config.options import COMMON, Common, RegistryCache, RegistryUrl, option, quiet, with_common
from stream.config.times import seconds
from stream.registry import About, Decision, Registry
from stream.versions.deciding import Decider, Why, decide

Reason = Annotated[str, typer.Option("--reason", help="one sentence, for whoever asks why")]
LeadS = Annotated[float, option("--lead-s", "LEAD_S", "how far ahead it is announced: as of workers", min=0.1)]
Ramp = Annotated[str, typer.Option("--ramp", metavar="TIME", help="until every entity has followed: 60s, 10m, ...")]
DEFAULT_LEAD_S = 60.0
BY_HAND = "pathcast models"


def publish(
    weights: Annotated[str, typer.Argument(help="a bundled name, or a directory that `train` or `refresh` wrote")],
    registry: RegistryUrl,
    parent: Annotated[str | None, typer.Option("--parent", help="the version that they were refreshed from")] = None,
    note: Annotated[str, typer.Option("--note", help="a remark that stays with them")] = "",
) -> None:
    """Publish weights, with a few forecasts by which a worker sees that it forecasts with them as it should.

    [bold]Examples[/]

      pathcast models publish small --registry /srv/pathcast
      pathcast models publish runs/mine --registry s3://bucket/pathcast --note "a week of November"
    """
    from model.api import weights_folder
    from stream.registry.golden import make_golden

    opened = Registry.open(registry)
    with quiet():
        base = None if parent is None else opened.manifest("weights", parent).version
        made = opened.publish_weights(weights_folder(weights), About(parent=base, note=note), make_golden(weights))
    typer.echo(f"weights {made.version} ({made.name}), {made.bytes / 1e6:,.1f} MB")


@with_common
def promote(
    version: VersionArgument,
    registry: RegistryUrl,
    cache: RegistryCache = None,
    ramp: Ramp = "60s",
    reason: Reason = "promoted by hand",
    lead_s: LeadS = DEFAULT_LEAD_S,
    common: Common = COMMON,
) -> None:
    """Let weights answer all entities, one after the other, from the next pings but a minute's on.

    Workers with the same --registry take them up; those without go on with their own.
    """
    ramp_s = seconds(ramp, "--ramp")
    _decide(
        lambda decider: decider.promote(version, Why(reason, BY_HAND), ramp_s=ramp_s),
        Registry.open(registry, cache),
        *(common, lead_s),
    )


@with_common
def canary(
    version: VersionArgument,
    registry: RegistryUrl,
    percent: Annotated[float, typer.Option("--percent", help="of the entities, by a hash of their ids")] = 5.0,
    cache: RegistryCache = None,
    reason: Reason = "tried by hand",
    lead_s: LeadS = DEFAULT_LEAD_S,
    common: Common = COMMON,
) -> None:
    """Let weights answer a few percent of the entities, until they are promoted or stopped."""
    _decide(
        lambda decider: decider.canary(version, percent, Why(reason, BY_HAND)),
        Registry.open(registry, cache),
        *(common, lead_s),
    )


@with_common
def stop(
    version: VersionArgument,
    registry: RegistryUrl,
    cache: RegistryCache = None,
    reason: Reason = "stopped by hand",
    lead_s: LeadS = DEFAULT_LEAD_S,
    common: Common = COMMON,
) -> None:
    """End the canary of these weights."""
    _decide(
        lambda decider: decider.stop(version, Why(reason, BY_HAND)),
        Registry.open(registry, cache),
        *(common, lead_s),
    )


@with_common
def rollback(
    registry: RegistryUrl,
    to: Annotated[str | None, typer.Option("--to", help="these weights; default: those that served before")] = None,
    cache: RegistryCache = None,
    reason: Reason = "rolled back by hand",
    lead_s: LeadS = DEFAULT_LEAD_S,
    common: Common = COMMON,
) -> None:
    """Let the weights answer that served before, for all entities at once. `refresh` promotes the others no more.

    Before the first promotion workers answered with their own weights: publish those, and name their version with --to.
    """
    _decide(
        lambda decider: decider.rollback(Why(reason, BY_HAND), to=to),
        Registry.open(registry, cache),
        *(common, lead_s),
    )


def _decide(
    take: Callable[[Decider], Awaitable[Decision]],
    registry: Registry,
    common: Common,
    lead_s: float,
) -> None:
    from stream.versions.announcing import Announcer

    def open_announcer() -> AbstractAsyncContextManager[Announcer]:
        return Announcer.open(common.bootstrap, common.topics, common.security, lead_s=lead_s)

    with quiet():
        made = asyncio.run(decide(open_announcer, registry, take))
    instead = "" if made.instead_of is None else f", instead of {made.instead_of}"
    typer.echo(f"{made.what} {made.version}{instead}: {made.reason}")
