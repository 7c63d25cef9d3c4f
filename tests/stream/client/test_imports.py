"""What a subscriber has to load, and what may be called by its name."""

from __future__ import annotations

import subprocess
import sys

import stream.client

HEAVY = ("numba", "llvmlite", "numpy", "torch", "model", "faust", "pandas", "geopandas", "pyarrow", "typer", "psycopg")


def test_a_subscriber_loads_neither_the_model_nor_its_compiler() -> None:
    asked = f"import sys, stream.client; print([name for name in {HEAVY} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=False)
    assert told.stdout == "[]\n", told.stderr


def test_help_shows_every_argument_with_its_unit() -> None:
    for one in (stream.client.Forecasts, stream.client.GapFills):
        text = one.__doc__ or ""
        for argument in (
            "bootstrap",
            "entity",
            "bbox",
            "since",
            "group",
            "limit",
            "timeout_s",
            "remember",
            "connect_s",
        ):
            assert argument in text
        assert "degrees" in text
