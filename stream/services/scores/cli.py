"""`pathcast beside scores`: shows what came of forecasts; and what scores them as time passes."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from stream.config.options import COMMON, Common, Json, quiet, with_common
from stream.config.times import seconds
from stream.members.command import ServiceOptions
from stream.members.running import Service


def offer(
    common: ServiceOptions,
    scores_group: Annotated[
        str | None, typer.Option("--scores-group", help="Kafka consumer group; default: PREFIX-scores")
    ] = None,
    longest: Annotated[
        str, typer.Option("--longest", metavar="TIME", help="the longest horizon that is scored; forecasts wait for it")
    ] = "15m",
    scores_max_entities: Annotated[
        int,
        typer.Option("--scores-max-entities", min=1, help="that wait at once, of one partition; others are given up"),
    ] = 100_000,
    drift: Annotated[
        bool, typer.Option("--drift/--no-drift", help="tell lasting changes (needs the extra `scores`)")
    ] = True,
) -> Service:
    """Compares every forecast with what then happened, at each of its horizons."""
    longest_s = seconds(longest, "--longest")
    from stream.services.scores.member import service
    from stream.services.scores.scoring.drift import check_installed
    from stream.services.scores.scoring.waiting import ScoringRules
    from stream.services.scores.settings import ScoreSettings

    if drift:
        check_installed()
    settings = ScoreSettings(
        **common._asdict(),
        group=scores_group or f"{common.prefix}-scores",
        rules=ScoringRules(float(longest_s)),
        max_entities=scores_max_entities,
        drift=drift,
    )
    return service(settings)


@with_common
def show(
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="only scores published in the last 1h, 30m, 7d ...")
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", min=1, help="only the newest so many forecasts of each model version")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option("--compare", metavar="VERSION VERSION", help="two versions, paired")
    ] = None,
    common: Common = COMMON,
    json: Json = False,
) -> None:
    """Show what came of forecasts, by model version, atlas and horizon, and which drifts were found.

    Intervals are 95 %, over entities. Forecasts with the status warmup or stale do not count.

    [bold]Examples[/]

      pathcast models scores --since 1h
      pathcast models scores --last 10000 --json
      pathcast models scores --compare 3fa1c09b7d52 88c0e1f2a3b4
    """
    from stream.services.scores.reading import read
    from stream.services.scores.showing import print_scores

    span_s = None if since is None else seconds(since, "--since")
    since_ms = None if span_s is None else int((time.time() - span_s) * 1000)
    with quiet():
        records = read(common.bootstrap, common.prefix, common.security, since_ms)
        print_scores(records, last, compare, as_json=json)
