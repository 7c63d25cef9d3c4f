"""`pathcast calibrate`: how wide regions have to be, on tracks of one's own. Heavy imports wait for the call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from train.cli import CacheOption, Part
from train.cli_data import ColumnsOption, MoreFiles, NeededFiles, read_watch, sources_of

if TYPE_CHECKING:
    from train.calibrate import Held

HELP = """Fit how wide 90 % regions are to tracks of your own. What is forecast stays as it is, and takes no training.

Weights are surer of where they were trained than of anywhere else. A few hundred hours of tracks tell how much wider
the regions have to be where you are: the new weights answer with the same positions and other covariances.

The tracks must be none that the weights were trained on. Of a file that training had, those are the default, --split
val. Of one that it never saw, --split train has eight times as many, and the test split stays for `pathcast evaluate`.

[bold]Examples[/]

  pathcast calibrate --weights small --data taxis.parquet --split train --out runs/taxis
  pathcast evaluate --weights runs/taxis --data taxis.parquet
  pathcast calibrate --weights runs/city --data monday.csv tuesday.csv --split all --out runs/city-tuesday
"""


def calibrate(
    data: NeededFiles,
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="where the calibrated weights go")],
    more: MoreFiles = None,
    columns: ColumnsOption = None,
    weights: Annotated[str, typer.Option("--weights", help="a bundled name or a directory; they stay")] = "small",
    split: Annotated[
        Part, typer.Option("--split", help="which part of each file; none that was trained on")
    ] = Part.val,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of lines")] = False,
) -> None:
    from model.checkpoint import CARD_FILE, from_pretrained, resolve, save_pretrained
    from train.calibrate import calibrate as fit
    from train.calibrate import tracks_to_calibrate_on

    sources = sources_of([*data, *(more or [])], columns)
    was = resolve(weights)
    if out.resolve() == was.resolve():
        raise typer.BadParameter(f"{out} has the weights of before, which stay: name another directory")
    network = from_pretrained(weights)
    if (reason := network.config.not_servable()) is not None:
        raise ValueError(f"{weights} cannot be calibrated, as it cannot be served: {reason}")

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with read_watch() as reading:
        samples = tracks_to_calibrate_on(sources, split.value, cache, reading=reading, say=say)
    if not samples:
        raise ValueError("nothing to calibrate on: no file has a track in that split that is long enough")
    held = fit(network, samples, say=say)
    card = (was / CARD_FILE).read_text(encoding="utf-8")
    save_pretrained(network, out, f"{card.rstrip()}\n\n{_for_card(held, weights, split.value)}")
    if as_json:
        typer.echo(json.dumps({"out": str(out), "calibrated_on": [one._asdict() for one in held]}, indent=2))
        return
    for one in held:
        typer.echo(one)
    typer.echo(f"{out}: {weights}, calibrated")


calibrate.__doc__ = HELP


def _for_card(held: list[Held], weights: str, split: str) -> str:
    """What the card's reader must know: its tables are of other regions."""
    return "\n".join(
        [
            "## Calibrated again",
            "",
            f"`pathcast calibrate` fitted the covariances of these weights anew, on split {split}; positions are those",
            f"of {weights}, and what is said of regions above is of before.",
            "",
            *(f"- {one}." for one in held),
            "",
        ]
    )
