"""The options of `pathcast train refresh --dir`, and which of them go together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from stream.config.options import option

PANEL: Final = "Live, with --dir"  # of --help
DEFAULT_SINCE: Final = "7d"
DEFAULT_PERCENT: Final = 5.0
DEFAULT_LEAD_S: Final = 60.0

Directory = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        file_okay=False,
        rich_help_panel=PANEL,
        help="refresh what serves live; rounds are kept here, the last five",
    ),
]
LiveRegistry = Annotated[
    str | None,
    option(
        "--registry",
        "REGISTRY",
        "where versions lie: a directory, or a URL such as s3://bucket/pathcast (extra s3)",
        rich_help_panel=PANEL,
    ),
]
LiveRegistryCache = Annotated[
    Path | None,
    option(
        "--registry-cache",
        "REGISTRY_CACHE",
        "where versions of a remote registry are kept; default: in the user's cache",
        file_okay=False,
        rich_help_panel=PANEL,
    ),
]
LivePrefix = Annotated[str, option("--prefix", "PREFIX", "how every topic name begins", rich_help_panel=PANEL)]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        rich_help_panel=PANEL,
        help=f"how far back pings count; {DEFAULT_SINCE} by default",
    ),
]
LiveArchive = Annotated[
    str | None,
    typer.Option(
        "--archive",
        metavar="DIR_OR_URL",
        rich_help_panel=PANEL,
        help="what pathcast beside archive has landed; the topic is read from where that ends",
    ),
]
Every = Annotated[
    str | None,
    typer.Option("--every", metavar="TIME", rich_help_panel=PANEL, help="a round each 24h, ..., until it is stopped"),
]
Canary = Annotated[
    float | None,
    typer.Option(
        "--canary",
        metavar="PERCENT",
        min=0.01,
        max=100.0,
        rich_help_panel=PANEL,
        help=f"of the entities, whom a better challenger answers; {DEFAULT_PERCENT:g} by default",
    ),
]
Promote = Annotated[
    bool, typer.Option("--promote", rich_help_panel=PANEL, help="it answers all of them at once, instead")
]
LeadS = Annotated[
    float | None,
    option(
        "--lead-s",
        "LEAD_S",
        "how far ahead it is announced, as of workers; 60 by default",
        min=0.1,
        rich_help_panel=PANEL,
    ),
]
Metrics = Annotated[
    str,
    option(
        "--metrics",
        "METRICS",
        "serve /metrics, /healthz and /readyz at HOST:PORT, or a loopback PORT",
        rich_help_panel=PANEL,
    ),
]

_OF_FILES: Final = ("out", "data", "more", "from_topic", "challenger", "cache")
_OF_LIVE: Final = (
    *("registry", "registry_cache", "prefix", "since", "archive", "every", "canary", "promote", "lead_s", "metrics"),
)


def check_mode(context: typer.Context) -> None:
    """Checks that all that was given is of one mode. Raises BadParameter."""
    given = context.params
    out, directory = given["out"], given["directory"]
    if out is None and directory is None:
        raise typer.BadParameter("give --out for files, or --dir and --registry to refresh what serves live")
    if directory is not None and given["registry"] is None:
        raise typer.BadParameter("--dir refreshes what serves live, and needs --registry")
    if given["canary"] is not None and given["promote"]:
        raise typer.BadParameter("give --canary or --promote, not both")
    if given["every"] is not None and given["as_json"]:
        raise typer.BadParameter("--every goes on for ever, and its log says what it decides: leave --json out")
    others, mode = (_OF_LIVE, "--out is of files") if directory is None else (_OF_FILES, "--dir reads the live topic")
    # What the environment says is for all commands.
    wrong = [name for name in others if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if wrong:
        names = {"more": "files", **{name: f"--{name.replace('_', '-')}" for name in others if name != "more"}}
        raise typer.BadParameter(f"{mode}: leave {', '.join(names[name] for name in wrong)} out")
