"""`pathcast train refresh`: options in, a decision out. Heavy imports wait for the call."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.config.options import COMMON, with_common
from stream.config.times import seconds
from stream.wire import Topics
from train.data.options import NO_TRACKS, CacheOption, TrackOptions, progress_bar, read_watch
from train.refresh.decision import DECISION_FILE
from train.refresh.live import options as live

if TYPE_CHECKING:
    from stream.adapters.sources import Source
    from train.refresh.run import RefreshWatch

DEFAULT_MINUTES = 10.0
NICE = 10  # beside workers on the same machine, which have the core first


@with_common
def refresh(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="where weights and decision go; must not exist")
    ] = None,
    tracks: TrackOptions = NO_TRACKS,
    init: Annotated[str, typer.Option("--init", help="the champion: a bundled name or a directory")] = "small",
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help=f"of one core, to train; {DEFAULT_MINUTES:g} if nothing is said"),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="the same, in steps")] = None,
    challenger: Annotated[
        str | None, typer.Option("--challenger", help="judge these weights, and train nothing")
    ] = None,
    golden: Annotated[
        list[str] | None,
        typer.Option("--golden", metavar="[FORMAT:]PATH", help="more tracks by which nothing may be forgotten"),
    ] = None,
    atlas: Annotated[
        str | None,
        typer.Option("--atlas", metavar="TIME", help="also judge beside the fleet's atlas, a new one each 1h, ..."),
    ] = None,
    places: Annotated[int, typer.Option("--places", min=1, help="cells of a new map, at most")] = 60_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of weights and batches")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto: a GPU where there is one; cpu; cuda")] = "auto",
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="decision.json instead of the sentence")] = False,
    directory: live.Directory = None,
    registry: live.LiveRegistry = None,
    registry_cache: live.LiveRegistryCache = None,
    prefix: live.LivePrefix = COMMON.prefix,
    since: live.Since = None,
    archive: live.LiveArchive = None,
    every: live.Every = None,
    canary: live.Canary = None,
    promote: live.Promote = False,
    lead_s: live.LeadS = None,
    metrics: live.Metrics = "",
) -> None:
    """Refresh the weights that serve from a fleet's own newest days, and promote the new ones if they are better.

    Training begins at the weights that serve (--init), and adds a map of the fleet's region where they have none.
    Regions are fitted again. Then both are judged by the newest tenth of the data, at least two hours, of which nothing
    trained. The challenger is promoted if it is nearer beyond chance and at no horizon farther off, in no kind of
    vehicle, cadence or motion worse, calibrated, and no worse on golden sets: the demo's buses, invented towns, and
    files of your own (--golden). The decision is told in one sentence, and kept with its numbers in DIR/decision.json.

    DIR then has weights that serve, pathcast worker --weights DIR, or, if they are refused, DIR/refused has them. It
    appears at the end; the same command, given again, goes on with a killed refresh. Exit code 0: promoted; 3: refused.

    --minutes are minutes of one core that this process has had, not those on the clock, because a machine is shared; on
    a GPU they are those on the clock. It runs with one thread, and lets everything else go first (nice).

    With --dir and --registry, instead of --out, it refreshes what serves live. The champion is what serves, or --init,
    which is published first. The data are the pings topic since --since ago, and what the --archive has of that time. A
    better challenger is published, and answers --canary percent of the entities until pathcast beside guard promotes or
    stops it; with --promote it answers all of them. A refusal is noted in the registry. --every 24h does it again and
    again, until SIGTERM or SIGINT. Whatever ends it, the same command goes on with the round.

    [bold]Examples[/]

      pathcast train refresh --data week.parquet --init small --minutes 10 --out runs/monday
      pathcast train refresh --data week.parquet --init runs/monday --golden buses.parquet --atlas 1h --out runs/tuesday
      pathcast train refresh --data week.parquet --init small --challenger runs/other --out runs/judged
      pathcast train refresh --since 7d --registry /srv/pathcast --every 24h --dir /var/lib/refresh
    """
    live.check_mode(context)
    if minutes is not None and steps is not None:
        raise typer.BadParameter("give --minutes or --steps, not both")
    if challenger is not None and (minutes is not None or steps is not None):
        raise typer.BadParameter("--challenger trains nothing: leave --minutes and --steps out")
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"--device is auto, cpu or cuda, got {device}")
    topics = Topics.of(prefix)
    if directory is not None:
        tracks = replace(tracks, from_topic=topics.pings)
    sources: list[Source] = []
    sets: list[Source] = []
    if directory is None or golden or tracks.table_options():  # else nothing is parsed, and Arrow takes 60 MB
        sources, sets = tracks.sources_and_others(golden)
    lower_priority()
    chosen: dict[str, Any] = {
        "out": out or Path(),
        "champion": init,
        "minutes": DEFAULT_MINUTES if minutes is None and steps is None else minutes,
        "steps": steps,
        "challenger": challenger,
        "seed": seed,
        "golden": tuple(sets),
        "atlas_ms": None if atlas is None else 1000 * seconds(atlas, "--atlas"),
        "places": places,
        "device": device,
        "cache": cache,
    }
    if directory is not None:
        from train.refresh.live.cli import open_live, run_live

        assert registry is not None
        served = partial(
            open_live,
            registry,
            registry_cache,
            tracks.bootstrap,
            directory,
            chosen,
            topics=topics,
            security=tracks.security,
            since_ms=1000 * seconds(since or live.DEFAULT_SINCE, "--since"),
            archive=archive,
            map=tracks.map_,
            percent=None if promote else canary or live.DEFAULT_PERCENT,
            lead_s=lead_s or live.DEFAULT_LEAD_S,
        )
        run_live(served, directory, topics.pings, every, metrics=metrics, as_json=as_json)
        return
    from train.refresh import run

    options = run.RefreshOptions(**chosen)
    assert out is not None
    with show_progress() as watch:
        sources += tracks.topic_snapshot(cache, watch.reading)
        given = ["--data", *map(str, sources), *tracks.table_options()]

        def command(steps: int) -> str:
            extra = [word for one in sets for word in ("--golden", str(one))]
            extra += [] if atlas is None else ["--atlas", atlas]
            how = ["--init", init, "--steps", str(steps), "--seed", str(seed), "--places", str(places)]
            return shlex.join(["pathcast", "train", "refresh", *given, *how, *extra, "--out", str(out)])

        decision = run.refresh(sources, options, command, watch)
    if as_json:
        typer.echo((out / DECISION_FILE).read_text(encoding="utf-8"))
    else:
        typer.echo(decision.sentence)
    if not decision.promote:
        raise typer.Exit(REFUSED)


REFUSED = 3  # exit code: neither a success nor an error


def lower_priority() -> None:
    """Lets other processes go first; for good, as a process cannot raise its own priority again."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


@contextmanager
def show_progress() -> Iterator[RefreshWatch]:
    """Yields what shows people how far a refresh is."""
    from train.fit import progress
    from train.refresh.run import RefreshWatch

    with progress.watch_training(None) as tick, read_watch() as reading, progress_bar("judging") as done:
        yield RefreshWatch(say=progress.tell, reading=reading, tick=tick, progress=done)
