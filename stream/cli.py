"""The root command. Finds its commands by entry points; knows nothing of what they do."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from inspect import cleandoc
from typing import NoReturn

import typer
from rich.console import Console

EXIT_FAILURE = 1  # the work failed; Typer exits with 2 for bad usage by itself

ERRORS = Console(stderr=True)


def build() -> typer.Typer:
    """The `pathcast` application with every command that an installed package registers."""
    app = typer.Typer(
        name="pathcast",
        help="Forecasts where moving things will be: live GPS pings in, next-step forecasts and gap fills out.",
        epilog="Try it: pathcast demo --seconds 60",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for point in sorted(entry_points(group="pathcast.commands"), key=lambda point: point.name):
        command = point.load()
        if isinstance(command, typer.Typer):
            for own in command.registered_commands:  # in place: Typer keeps what it is told of them nowhere else
                own.help = _flowing(own.help or getattr(own.callback, "__doc__", None))
            app.add_typer(command, name=point.name)
        else:
            app.command(name=point.name, help=_flowing(command.__doc__))(command)
    return app


def _flowing(text: str | None) -> str:
    """A help text whose paragraphs are a line each, for the terminal to break: Rich would break it at our line ends,
    too. Examples, which are indented, keep theirs."""
    paragraphs = cleandoc(text or "").split("\n\n")
    return "\n\n".join(one if one.startswith(" ") else one.replace("\n", " ") for one in paragraphs)


def main() -> NoReturn:
    """Run one command. What a user can cause is one line on stderr and exit 1; a traceback is our own bug."""
    try:
        build()(standalone_mode=True)
    except (OSError, ValueError, RuntimeError) as error:
        ERRORS.print(f"[bold red]error:[/] {_one_line(error)}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_FAILURE)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__).replace("[", r"\[")
