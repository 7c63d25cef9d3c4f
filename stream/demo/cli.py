"""`pathcast demo`: the command that runs everything on one machine, with nothing to set up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream.config.options import Json, Weights, quiet
from stream.config.settings import Settings
from stream.wire.escape import escaped

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from stream.demo.board import Board, Live
    from stream.demo.run import DemoOptions

Verdict = Callable[["Board", dict[str, Any]], str]  # what is said at the end, from the board and its summary

SPEEDUP = 120.0  # two minutes a second: in 60 s each bus reports some 80 times, and 15-minute forecasts can be scored
EXIT_INTERRUPTED = 130  # a shell's status for Ctrl-C

COLUMNS = {
    "constant_velocity": "constant velocity",
    "damped_velocity": "damped velocity",
    "stay": "stays where it is",
}
ATLAS_COLUMNS = {"model": "with an atlas", "model_without_atlas": "model alone"}
NAMES = {"next": "next ping", "60": "1 minute ahead", "300": "5 minutes ahead", "900": "15 minutes ahead"}


def demo(
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="how long to replay")] = 60.0,
    vehicles: Annotated[int | None, typer.Option(min=1, help="the first so many; without it, all")] = None,
    speedup: Annotated[float, typer.Option(min=0.01, max=100_000, help="times real time")] = SPEEDUP,
    weights: Weights = Settings.weights,
    has_map: Annotated[
        bool, typer.Option("--map/--no-map", help="show a live map in the browser, at an address that is printed")
    ] = True,
    stays: Annotated[bool, typer.Option("--stay", help="keep the map after the replay, until Ctrl-C")] = False,
    json: Json = False,
) -> None:
    """Forecast real vehicles, here and now: a broker, a store and a worker of their own, and a replay into them.

    The buses are a bundled recording from Austin, Texas (Capital Metro, collected by CapMetrics). Nothing is left
    behind. pathcast try FILE does the same with your own tracks.

    [bold]Examples[/]

      pathcast demo --seconds 60
      pathcast demo --seconds 20 --vehicles 5
      pathcast demo --seconds 60 --json
      pathcast demo --speedup 10 --seconds 600 --stay
    """
    from stream.demo.run import DemoOptions

    run_demo(DemoOptions(seconds, vehicles, None, speedup, weights, has_map, stays), as_json=json)


def run_demo(options: DemoOptions, verdict: Verdict | None = None, *, as_json: bool) -> None:
    """Runs the demo with a live picture, and shows its summary, below which `verdict` is printed."""
    if options.stays and not options.has_map:
        raise typer.BadParameter("--stay keeps the map, which --no-map leaves out")
    from rich.console import Console

    from stream.demo.board import Board
    from stream.demo.parts import PartFailed
    from stream.demo.run import run

    board, interrupted = Board(), False
    with quiet():
        screen = _Screen(Console(stderr=as_json), board, verdict, json=as_json, stays=options.stays)
        try:
            with screen:
                run(options, board, screen)
        except KeyboardInterrupt:
            interrupted = True
            screen.done()
        except PartFailed as failure:
            typer.echo(failure.lines, err=True)
            raise
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


class _Screen:
    """Shows a live picture on a terminal; elsewhere (a log, a pipe), prints one line each time the activity changes.
    At the end, it prints a summary."""

    def __init__(self, console: Console, board: Board, verdict: Verdict | None, *, json: bool, stays: bool) -> None:
        from rich.live import Live as Screen

        self._console, self._board, self._json, self._stays = console, board, json, stays
        self._verdict = verdict
        self._shown = ""
        self._map: str | None = None
        self._is_done = False
        self._live = Screen(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> _Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, doing: str) -> None:
        if self._live is not None:
            self._live.update(_picture(doing, self._board.live()), refresh=True)
        elif doing != self._shown:
            self._console.print(f"{doing} ...", highlight=False)
            self._shown = doing

    def address(self, map_url: str | None) -> None:
        self._map = map_url
        text = "the map could not be started" if map_url is None else f"a live map: {map_url}"
        self._console.print(text, highlight=False, soft_wrap=True)

    def done(self) -> None:
        from stream.up import embedded

        if self._is_done:
            return
        self._is_done = True
        if self._live is not None:
            self._live.stop()
        broker, store = embedded.names()
        summary = self._board.summary(broker=broker, store=store)
        if self._json:
            typer.echo(msgspec.json.encode(summary))
        else:
            _show_summary(self._console, self._board, summary)
        if self._verdict is not None:
            self._console.print(self._verdict(self._board, summary), highlight=False, markup=False, soft_wrap=True)
        if self._stays and self._map is not None:
            self._console.print(f"the map stays at {self._map} until Ctrl-C", highlight=False, soft_wrap=True)


def _picture(doing: str, live: Live) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    when = "" if live.event_ts is None else f"{datetime.fromtimestamp(live.event_ts / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    lines = [Text.assemble((doing, "bold"), f"  {when}")]
    counts = f"{live.pings_in:,} pings in  {live.forecasts_out:,} forecasts out  {live.gapfills_out} gap fills"
    lines.append(Text(f"{counts}  {live.rejects} rejects  {live.vehicles} vehicles"))
    if live.p50_ms is not None and live.p99_ms is not None:
        lines.append(Text(f"ping to forecast: {live.p50_ms:.0f} ms median, {live.p99_ms:.0f} ms p99"))
    if live.next_m is not None:
        mean = live.next_m
        wrong = (
            f"next ping is off by {mean.model:.0f} m on average, constant velocity by {mean.constant_velocity:.0f} m"
        )
        lines.append(Text(wrong, style="green" if mean.model < mean.constant_velocity else ""))
    table = Table("vehicle", "is at", "next ping", "in 5 minutes", box=None, pad_edge=False)
    for forecast in live.latest:
        step = forecast.next
        later = next((f"{h.lat:.4f}, {h.lon:.4f}" for h in forecast.horizons if h.h_s == 300), "")
        ahead = f"in {step.dt_s:.0f} s, {step.d_east_m:+.0f} m east, {step.d_north_m:+.0f} m north"
        at = f"{forecast.anchor.lat:.4f}, {forecast.anchor.lon:.4f}"
        table.add_row(Text(escaped(forecast.entity_id)), at, ahead, later)
    return Group(*lines, table)


def _show_summary(console: Console, board: Board, summary: dict[str, Any]) -> None:
    console.print(
        f"{summary['pings_in']:,} pings in, {summary['forecasts_out']:,} forecasts out, "
        f"{summary['gapfills_out']:,} gap fills, {summary['rejects']:,} rejects",
        highlight=False,
    )
    for code, count in board.rejects_by_code.items():
        console.print(f"  {count:,} rejected: {code}", highlight=False)
    latency = summary["latency_ms"]
    if latency["p50"] is not None:
        console.print(f"ping to forecast: {latency['p50']:.1f} ms median, {latency['p99']:.1f} ms p99", highlight=False)
    console.print(_errors(board, summary["error_m"]))
    if (atlas := summary["atlas"]) is not None:
        console.print(_gain_of_atlas(atlas, summary["forecasts_out"]), highlight=False)
    console.print(f"model {summary['model']}, broker {summary['broker']}, store {summary['store']}", highlight=False)


def _errors(board: Board, error_m: dict[str, dict[str, float | None]]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    pairs, compared = board.pairs(), "model_without_atlas" in error_m["next"]
    names = ATLAS_COLUMNS | COLUMNS if compared else {"model": "pathcast"} | COLUMNS
    table = Table(title="How far off, in metres on average", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("cases", *names.values()):
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for target, mean in error_m.items():
        cells = ["-" if (metres := mean[name]) is None else f"{metres:,.0f}" for name in names]
        table.add_row(NAMES[target], f"{len(pairs[target]):,}", *cells)
    return table


def _gain_of_atlas(atlas: dict[str, Any], forecasts: int) -> str:
    begin, end = (datetime.fromtimestamp(atlas[name] / 1000, UTC) for name in ("from_ms", "to_ms"))
    newer = max(0, atlas["versions_asked"] - 1)
    return (
        f"atlas of {atlas['pings']:,} earlier pings of {atlas['entities']:,} vehicles, {begin:%Y-%m-%d %H:%M} to "
        f"{end:%Y-%m-%d %H:%M} UTC, and {newer} newer version{'' if newer == 1 else 's'} with what was replayed by "
        f"then; they moved {atlas['forecasts_moved']:,} of these {forecasts:,} forecasts"
    )
