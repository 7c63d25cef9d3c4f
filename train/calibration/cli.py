"""`pathcast train calibrate`: fits the size of regions to tracks of one's own. Heavy imports wait for the call."""

from __future__ import annotations

import json
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.config.options import with_common
from train.data.options import NO_TRACKS, CacheOption, TrackOptions, read_watch, sources_of

if TYPE_CHECKING:
    from model.network.network import Network
    from stream.adapters.sources import Source

FEW = 10  # entities: with so few, the coverage for others will be higher or lower


class Split(StrEnum):
    val = "val"
    train = "train"
    all = "all"


@with_common
def calibrate(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="where the calibrated weights go")],
    tracks: TrackOptions = NO_TRACKS,
    weights: Annotated[str, typer.Option("--weights", help="a bundled name or a directory; they stay")] = "small",
    split: Annotated[
        Split, typer.Option("--split", help="which part of each file; none that was trained on")
    ] = Split.val,
    left_out: Annotated[
        list[str] | None,
        typer.Option("--left-out", metavar="FILE=WEIGHTS", help="a file, and weights that were trained without it"),
    ] = None,
    shrink_to_physics: Annotated[
        bool, typer.Option("--shrink-to-physics", help="also move forecasts, as far as tracks ask for")
    ] = False,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of lines")] = False,
) -> None:
    """Fit how wide 90 % regions are to tracks of your own, without training.

    Weights are surer of where they were trained than of anywhere else. Tracks from where you are tell how much wider
    the regions have to be there: the new weights answer with the same positions, and with other covariances.

    With --shrink-to-physics forecasts move, too: each by one share, from 0 to 1, of the way to going on with damped
    velocity, the one that brings forecasts of these tracks nearest. Where the network knows the place it is near 0;
    with --left-out it is what the regions left out ask for.

    The tracks must be none that the weights were trained on. --split val, the default, is what `pathcast train` leaves
    out of its files. Of a file that the weights never saw, --split train has more vehicles. Both leave the test split
    to `pathcast evaluate`; all leaves it nothing.

    Pings that report a speed and a course have terms of their own. Where a file reports none and is dense, its thinned
    pings get them from the file, and these terms are fitted to those; they stay as they were where there are too few.

    What a fleet does changes with its days. --from-topic reads the pings that a worker reads, so that regions can be
    fitted again every now and then to the tracks of late.

    For weights that are to go anywhere, --left-out FILE=WEIGHTS adds a region as it is to weights that never saw it:
    FILE's train split, and how wrong WEIGHTS are there, which are like these and were trained without it.

    [bold]Examples[/]

      pathcast train calibrate --weights small --data taxis.parquet --split train --out runs/taxis
      pathcast evaluate --weights runs/taxis --data taxis.parquet
      pathcast train calibrate --weights small --data taxis.parquet --split train --shrink-to-physics --out runs/near
      pathcast train calibrate --weights small --from-topic pathcast.pings.v1 --split all --out runs/now
      pathcast train calibrate --weights ab --data a.csv b.csv --left-out a.csv=no-a --left-out b.csv=no-b --out far
    """
    sources = tracks.sources()
    others = [_file_and_weights(one, tracks.columns) for one in left_out or []]
    from model.network.checkpoint import save_pretrained
    from model.parameters.reading import CARD_FILE, resolve
    from train.calibration.calibrate import MOST_ANCHORS, LeftOut, tracks_to_calibrate_on
    from train.calibration.calibrate import calibrate as fit
    from train.calibration.model_card import describe_shrinkage, write_calibrated_card
    from train.calibration.shrinkage import check, fit_share, shrink
    from train.evaluation.forecasts import open_samples

    if out.exists() and any(out.iterdir()):
        raise typer.BadParameter(f"{out} is not empty, and what it has stays: name another directory")
    network = _servable(weights)
    if shrink_to_physics:
        check(network.config)
    card_file = resolve(weights) / CARD_FILE
    theirs = card_file.read_text(encoding="utf-8") if card_file.exists() else None

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with read_watch() as reading:
        sources += tracks.topic_snapshot(cache, reading)
        samples = tracks_to_calibrate_on(sources, split.value, cache, reading=reading, say=say)
        regions_left_out = [
            LeftOut(_servable(without), sample)
            for source, without in others
            for sample in open_samples([source], "train", cache_dir=cache, most=MOST_ANCHORS, reading=reading)
        ]
    if not samples:
        raise ValueError(f"nothing to calibrate on: no file has a track in split {split.value} that is long enough")
    out.mkdir(parents=True, exist_ok=True)  # now, because the following steps take minutes
    share = None
    if shrink_to_physics:
        share = fit_share(regions_left_out or [(network, sample) for sample in samples], say=say)
        for moved in (network, *(one.network for one in regions_left_out)):
            shrink(moved, share)
    held = fit(network, samples, left_out=regions_left_out, say=say)
    without = [(source.name, left) for source, left in others]
    card = write_calibrated_card(network.config.name, weights, theirs, held, split.value, without, share)
    save_pretrained(network, out, card)
    if as_json:
        found = {"out": str(out), "shrunk_by": share, "fitted_to": [one._asdict() for one in held]}
        typer.echo(json.dumps(found, indent=2))
    else:
        if share is not None:
            typer.echo(f"forecasts are {describe_shrinkage(share)}")
        for one in held:
            typer.echo(one)
        if split is not Split.all:
            mapped = tracks.table_options()
            judge = ["pathcast", "evaluate", "--weights", str(out), *mapped, "--data", *map(str, sources)]
            typer.echo(f"on tracks that it was not fitted to: {shlex.join(judge)}")
    for file, entities in {one.file: one.entities for one in held}.items():
        if entities < FEW:
            say(f"{file}: so few entities ({entities}) say little of others")
    if split is Split.all:
        say("--split all: these files have no track left that could tell how the regions do")


def _servable(weights: str) -> Network:
    from model.network.checkpoint import from_pretrained

    network = from_pretrained(weights)
    if (reason := network.config.not_servable()) is not None:
        raise ValueError(f"{weights} cannot be calibrated, as it cannot be served: {reason}")
    return network


def _file_and_weights(given: str, columns: str | None) -> tuple[Source, str]:
    """Parses FILE=WEIGHTS. An error in the names is a usage error."""
    from model.parameters.reading import WeightsError, resolve

    file, equals, weights = given.rpartition("=")
    if not equals or not file or not weights:
        raise typer.BadParameter(f"--left-out needs FILE=WEIGHTS, got {given!r}")
    (source,) = sources_of([file], None, columns)
    try:
        resolve(weights)
    except WeightsError as error:
        raise typer.BadParameter(str(error)) from error
    return source, weights
