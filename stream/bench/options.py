"""The options that several benchmarks have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="a running Kafka, host:port; default: an Apache Kafka of our own")
]
RedisUrl = Annotated[str | None, typer.Option("--redis", help="a running Redis; default: one of our own")]
Weights = Annotated[str, typer.Option("--weights", help="a bundled name or a directory")]
Record = Annotated[bool, typer.Option("--record", help="put the results into stream/bench/RESULTS.md")]
Data = Annotated[
    Path | None, typer.Option("--data", exists=True, dir_okay=False, help="tracks to use; default: the bundled buses")
]
Entities = Annotated[int, typer.Option("--entities", min=1, max=1_000_000)]
Rounds = Annotated[int, typer.Option("--rounds", min=2, max=100_000, help="pings per entity")]
Partitions = Annotated[int, typer.Option("--partitions", min=1, max=256)]
Runs = Annotated[int, typer.Option("--runs", min=1, max=100, help="each number is the median of so many")]
Timeout = Annotated[float, typer.Option("--timeout-s", min=1, max=7_200, help="the longest that one phase may take")]
AtlasPassages = Annotated[int, typer.Option("--atlas-passages", min=1, help="the least in the atlas")]
