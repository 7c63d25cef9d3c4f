"""`pathcast models`: shows the versions of a registry, carries them to another one, and decides which serve."""

from __future__ import annotations

import typer

from stream.commands.models.carrying import export, import_versions
from stream.commands.models.deciding import canary, promote, publish, rollback, stop
from stream.commands.models.showing import diff, list_versions, show

app = typer.Typer(
    help="Versions of weights and of atlases in a registry: what they are, and which of them serve.",
    no_args_is_help=True,
)

app.command("list")(list_versions)
app.command()(show)
app.command()(diff)
app.command()(export)
app.command("import")(import_versions)
app.command()(publish)
app.command()(promote)
app.command()(canary)
app.command()(stop)
app.command()(rollback)
