"""`pathcast ingest`: one command for each way in. Each module of `stream.ingest.commands` has one."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import typer

from stream.ingest import commands

app = typer.Typer(
    help="Vehicles of other systems into the pings topic: their formats, units and habits.\n\n"
    "A source is told that its message was taken once Kafka has it. A message without a ping becomes a dead letter.",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keeps the name of a command when there is only one."""


def _add_commands() -> None:
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda module: module.name):
        found = import_module(f"{commands.__name__}.{module.name}")
        app.command(name=module.name.replace("_", "-"))(getattr(found, module.name))


_add_commands()
