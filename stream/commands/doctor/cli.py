"""`pathcast doctor`: options in, findings out."""

from __future__ import annotations

import json as encoder
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from stream.commands.doctor.finding import Finding, Level, failed
from stream.config.options import SERVERS, Json, Servers, Weights, option, quiet, with_common
from stream.config.settings import DeliveryGuarantee, Settings

PARTS = ("kafka", "redis", "weights", "atlases", "registry", "machine")  # as stream.commands.doctor.examining has them


@with_common
def doctor(
    servers: Servers = SERVERS,
    weights: Weights = Settings.weights,
    delivery: Annotated[
        DeliveryGuarantee, option("--delivery", "DELIVERY", "as the workers have it")
    ] = DeliveryGuarantee.AT_LEAST_ONCE,
    atlases: Annotated[Path | None, option("--atlases", "ATLASES", "directory of the fleet's atlases")] = None,
    registry: Annotated[str | None, option("--registry", "REGISTRY", "where versions of weights lie")] = None,
    without: Annotated[str, typer.Option("--without", metavar="PART,...", help=f"leave out: {', '.join(PARTS)}")] = "",
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.5, max=600, help="how long a server may take to answer")
    ] = 10.0,
    json: Json = False,
) -> None:
    """Check everything that a worker needs, and say what to do where something is wrong.

    Give the same options or variables as to the worker. One line is printed for each thing: ok; warning: it works, but
    should be changed; problem: it does not work, or will lose data; unknown: our user may not ask. Checked are Kafka
    (topics and their settings, rights, groups and their lag), Redis (version, maxmemory-policy, persistence, memory,
    speed), weights and their golden forecasts, compiled kernels, atlases, a registry, clocks, and this machine. Nothing
    is written anywhere, so it cannot be known whether a transactional id may be written.

    The exit code is 1 if there is a problem, else 0.

    [bold]Examples[/]

      pathcast doctor --bootstrap kafka:9092 --redis redis://redis:6379/0
      pathcast doctor --atlases /srv/atlases --registry /srv/pathcast --json
      pathcast doctor --without redis,weights
    """
    left_out = frozenset(part.strip() for part in without.split(",") if part.strip())
    if odd := sorted(left_out - set(PARTS)):
        raise typer.BadParameter(f"{', '.join(odd)}: expected some of {', '.join(PARTS)}", param_hint="--without")
    from stream.commands.doctor.examining import Examination, examine

    settings = servers.settings(weights=weights, delivery=delivery, atlases=atlases, registry=registry)
    with quiet():
        findings = examine(Examination(settings, timeout_s, left_out))
        if json:
            typer.echo(encoder.dumps({"ok": not failed(findings), "findings": as_json(findings)}))
        else:
            show(findings, Console())
    if failed(findings):
        raise typer.Exit(1)


STYLES: Final = {
    Level.OK: "green",
    Level.WARNING: "yellow",
    Level.PROBLEM: "bold red",
    Level.UNKNOWN: "cyan",
}


def show(findings: Sequence[Finding], console: Console) -> None:
    wide = max((len(one.check) for one in findings), default=0)
    for one in findings:
        line = Text.assemble((f"{one.level:<8}", STYLES[one.level]), f" {one.check:<{wide}}  {one.found}")
        console.print(line, soft_wrap=True, highlight=False)
        if one.advice:
            console.print(Text(f"{'':8} {'':{wide}}  -> {one.advice}"), soft_wrap=True, highlight=False)
    counts = Counter(one.level for one in findings)
    console.print(", ".join(f"{level}: {counts[level]}" for level in Level), highlight=False)


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [one._asdict() for one in findings]
