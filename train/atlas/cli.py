"""`pathcast fit-atlas`: trains the part of weights that reads an atlas. Heavy imports wait for the call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from train.data.options import CacheOption, ColumnsOption, Files, MoreFiles, read_watch, sources_of

if TYPE_CHECKING:
    from stream.adapters.sources import Source
    from train.atlas.examples import Examples

HELP = """Train how far weights believe an atlas: the map that a fleet's own pings draw.

The pings of each file are walked in the order of their times, and an atlas grows from them. What it says beside the
forecasts of the weights, and what then happened, teaches one small head. Half of the forecasts are not told what their
own vehicle did. All else of the weights stays: without an atlas they answer as before, to the bit.

Counting needs no training and works anywhere; what is learned here is when to believe it. So several regions should
teach it, towns of fleets among them: `pathcast synth --per-town 64`. Real files give their train split.

[bold]Examples[/]

  pathcast synth --out fleets.parquet --entities 768 --per-town 64
  pathcast fit-atlas --weights small --data buses.parquet taxis.csv --invented fleets.parquet --out runs/atlas
  pathcast evaluate --weights runs/atlas --data trams.parquet --atlas 1h
"""


def fit_atlas(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="where the new weights go")],
    data: Files = None,
    more: MoreFiles = None,
    columns: ColumnsOption = None,
    invented: Annotated[
        list[Path] | None,
        typer.Option("--invented", exists=True, dir_okay=False, help="a file of `pathcast synth --per-town 64`"),
    ] = None,
    weights: Annotated[str, typer.Option("--weights", help="a bundled name or a directory; they stay")] = "small",
    steps: Annotated[int, typer.Option("--steps", min=1, help="of 4,096 examples")] = 3_000,
    most: Annotated[int, typer.Option("--most", min=100, help="forecasts of each file, about")] = 40_000,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of lines")] = False,
) -> None:
    sources = sources_of(data, more, columns, None) if data or more else []
    towns = sources_of([str(one) for one in invented or []], None, None, None) if invented else []
    if not sources and not towns:
        raise typer.BadParameter("give files with --data, or towns with --invented")
    if out.exists() and any(out.iterdir()):
        raise typer.BadParameter(f"{out} is not empty, and what it has stays: name another directory")
    from model.network.checkpoint import from_pretrained, save_pretrained
    from train.atlas.fitting import fit
    from train.atlas.model_card import card_with_atlas

    network = from_pretrained(weights)
    parts = {source.name: _examples(source, weights, "train", most, seed, cache) for source in sources}
    parts |= {source.name: _examples(source, weights, "all", most, seed, cache) for source in towns}
    for name, part in parts.items():
        typer.echo(f"{name}: {len(part.weight):,} forecasts about which an atlas knew something", err=True)
    known = {name: part for name, part in parts.items() if len(part.weight)}
    if not known:
        raise ValueError("no file has a fleet that goes where others have been: there is nothing to learn")
    with _bar("steps") as done:
        fitted = fit(list(known.values()), steps, seed, progress=lambda step, loss: done((step + 1) / steps))
    network.atlas.load_state_dict(fitted.head.state_dict())
    out.mkdir(parents=True, exist_ok=True)
    card = card_with_atlas(weights, {name: len(part.weight) for name, part in known.items()}, steps, fitted)
    save_pretrained(network, out, card)
    summary = {"out": str(out), "before": fitted.before, "after": fitted.after}
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(
            f"mean distance over these files, as a share of damped velocity's: {fitted.before:.3f} by variances alone, "
            f"{fitted.after:.3f} with the trained head\non other tracks: pathcast evaluate --weights {out} --atlas 1h "
            "--data FILE"
        )


fit_atlas.__doc__ = HELP


def _examples(source: Source, weights: str, split: str, most: int, seed: int, cache: Path | None) -> Examples:
    from model.api import Predictor
    from train.atlas.examples import of_sample
    from train.evaluation.forecasts import open_samples

    with read_watch() as reading:
        (sample,) = open_samples([source], split, cache_dir=cache, most=most, reading=reading)  # type: ignore[arg-type]
    with _bar(source.name) as done:
        return of_sample(sample, Predictor.load(weights), seed=seed, progress=done)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float], None]]:
    """Yields a function that shows which share is done, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)
