"""`pathcast scores`: scores forecasts as time passes, and shows what came of them."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Annotated

import typer

from stream.config import failpoints
from stream.config.options import (
    COMMON,
    DEFAULT_BOOTSTRAP,
    DEFAULT_PREFIX,
    Bootstrap,
    Common,
    Json,
    Prefix,
    log_to_stderr,
    quiet,
    secured,
    with_common,
)
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.config.times import seconds
from stream.members.options import Metrics, Once

app = typer.Typer(help="What became of forecasts: scored live, and shown.", no_args_is_help=True)


@app.command()
@secured
def run(
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = DEFAULT_PREFIX,
    group: Annotated[
        str | None, typer.Option("--group", help="Kafka consumer group; default: the prefix and -scores")
    ] = None,
    longest: Annotated[
        str, typer.Option("--longest", metavar="TIME", help="the longest horizon that is scored; forecasts wait for it")
    ] = "15m",
    max_entities: Annotated[
        int, typer.Option("--max-entities", min=1, help="that wait at once, of one partition; others are given up")
    ] = 100_000,
    drift: Annotated[
        bool, typer.Option("--drift/--no-drift", help="tell lasting changes (needs the extra `scores`)")
    ] = True,
    once: Once = False,
    metrics: Metrics = "",
    security: KafkaSecurity = PLAIN_KAFKA,
) -> None:
    """Compare every forecast with what then happened, at each of its horizons.

    Reads the forecasts topic alone, and writes the scores topic. Start one, or several that share the partitions. A
    kill -9 loses nothing: scores that are written twice have the same forecast_id and the same bytes.

    [bold]Examples[/]

      pathcast scores run
      pathcast scores run --bootstrap kafka:9092 --metrics 9474
      pathcast scores run --once && pathcast models scores
    """
    longest_s = seconds(longest, "--longest")
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    log_to_stderr()
    from stream.members.running import SIGNALS, door_of
    from stream.services.scores.member import serve
    from stream.services.scores.scoring.drift import check_installed
    from stream.services.scores.scoring.waiting import Rules
    from stream.services.scores.settings import ScoreSettings

    if drift:
        check_installed()
    settings = ScoreSettings(
        bootstrap=bootstrap,
        prefix=prefix,
        group=group or f"{prefix}-scores",
        rules=Rules(float(longest_s)),
        max_entities=max_entities,
        drift=drift,
        once=once,
        kafka=security,
    )
    asyncio.run(serve(settings, SIGNALS, door_of(metrics)))


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
    from stream.services.scores.showing import printed

    span_s = None if since is None else seconds(since, "--since")
    since_ms = None if span_s is None else int((time.time() - span_s) * 1000)
    with quiet():
        records = read(common.bootstrap, common.prefix, common.security, since_ms)
        printed(records, last, compare, as_json=json)
