"""`pathcast warm`: compiles all that a worker needs, so that the first start of a worker does not have to."""

from __future__ import annotations

import asyncio
import time

import typer

from stream.config.options import Json, Weights
from stream.config.settings import Settings


def warm(
    weights: Weights = Settings.weights,
    json: Json = False,
) -> None:
    """Compile the kernels of a worker for this machine's processor, and keep them on disk.

    The first worker on a machine compiles them, which takes half a minute or more; later ones load them. Run this in an
    init container, or when a machine is set up. The kernels are kept beside the package, or where no file can be
    written there, in the user's cache or in NUMBA_CACHE_DIR; other processors, and other releases, need others.

    [bold]Examples[/]

      pathcast warm
      NUMBA_CACHE_DIR=/var/cache/pathcast pathcast warm --weights ./my-weights
    """
    from model.api import Predictor
    from model.jit import cache_folders, compiling
    from stream.worker.warmup import warm as answer_synthetic_pings

    if not (folders := cache_folders()):
        raise OSError("no folder can be written in which kernels would be kept: set NUMBA_CACHE_DIR to one that can")
    began_s = time.monotonic()
    with compiling(lambda line: typer.echo(line, err=True)):
        predictor = Predictor.load(weights, capacity=16)
        predictor.warm_atlas()
        asyncio.run(answer_synthetic_pings(predictor, Settings(weights=weights)))
    seconds = round(time.monotonic() - began_s, 1)
    if json:
        import json as encoder

        found = {"weights": weights, "layers": predictor.layers, "cpu": predictor.instructions}
        typer.echo(encoder.dumps({**found, "seconds": seconds, "folders": list(map(str, folders))}))
    else:
        kinds = f"layers in {predictor.layers}, CPU vectors: {predictor.instructions}"
        typer.echo(f"kernels for weights {weights} ({kinds}) are ready after {seconds} s, kept in:")
        for folder in folders:
            typer.echo(f"  {folder}")
