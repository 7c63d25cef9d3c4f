"""`pathcast train synth`: writes invented tracks to train on beside real ones. Heavy imports wait for the call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def synth(
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="the Parquet file")],
    entities: Annotated[int, typer.Option("--entities", min=1, help="how many")] = 600,
    per_town: Annotated[int, typer.Option("--per-town", min=1, help="how many of them in a town")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """Write invented taxis, couriers, buses, travellers and walkers as a track file, to train on beside real tracks.

    They make the trips and waits that free data lacks, so that weights travel to towns never seen. A file is a function
    of its seed; nothing in it is a real place, so it may be shared. With 16 or more in a town they are one fleet: they
    share streets, places and bus lines, which is what an atlas learns from.

    [bold]Examples[/]

      pathcast train synth --out towns.parquet
      pathcast train --data buses.parquet --invented towns.parquet --out runs/small
      pathcast train synth --out fleets.parquet --entities 768 --per-town 64
    """
    from train.data.options import progress_bar
    from train.data.synth import write_towns

    with progress_bar("entities") as progress:
        pings = write_towns(out, entities=entities, seed=seed, per_town=per_town, progress=progress)
    typer.echo(f"{out}: {pings:,} pings of {entities:,} entities")
