"""`pathcast models`: shows the versions of a registry, and carries them to another one."""

from __future__ import annotations

import typer

from stream.models.carrying import export, import_versions
from stream.models.showing import decisions, diff, list_versions, show

app = typer.Typer(
    help="Versions of weights and of atlases in a registry: what they are, and what was decided of them.",
    no_args_is_help=True,
)

app.command("list")(list_versions)
app.command()(show)
app.command()(diff)
app.command()(decisions)
app.command()(export)
app.command("import")(import_versions)
