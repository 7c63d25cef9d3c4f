"""The command-line options that services have in common."""

from __future__ import annotations

from typing import Annotated

import typer

Metrics = Annotated[
    str,
    typer.Option(
        "--metrics",
        envvar="PATHCAST_METRICS",
        help="serve /metrics, /healthz and /readyz at HOST:PORT, or a loopback PORT",
    ),
]
Once = Annotated[bool, typer.Option("--once", help="up to the present end, and stop")]
