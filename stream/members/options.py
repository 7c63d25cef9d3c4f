"""The command-line options that services have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.config.options import Metrics

__all__ = ("Metrics", "Once")

Once = Annotated[bool, typer.Option("--once", help="up to the present end, and stop")]
