"""Defines the root command, which finds its commands by entry points."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version
from inspect import cleandoc
from types import TracebackType
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console

from stream.config import environment
from stream.wire.escape import escaped

GROUP: Final = "pathcast.commands"  # of entry points
LOGS_ITSELF = "worker"  # the command that has a log, and warns there
LOOK_AT_OTHERS: Final = "config"  # a command that reads what options the others have
INTERRUPTED: Final = 130  # the exit code after Ctrl-C, as shells have it: 128 and the signal's number
EXIT_FAILURE = 1  # the work failed; Typer exits with 2 for bad usage by itself

# Packages that serving does without, and the extra that installs them.
EXTRAS: Final = {
    "torch": "train",
    "tensorboard": "train",
    "pyarrow": "readers",
    "river": "scores",
    "paho": "ingest",
    "google": "ingest",  # google.transit; protobuf comes along with it
    "pyais": "ingest",
    "pynmea2": "ingest",
    "serial": "ingest",
    "serial_asyncio_fast": "ingest",
    "avro": "contracts",
    "fastavro": "contracts",
    "yaml": "contracts",
    "psycopg": "sinks",
    "opentelemetry": "otel",
}
TRAINING: Final = (
    "train",
    "calibrate",
    "refresh",
    "experiment",
)  # commands that need torch, whatever is missing first

# The panels of `pathcast --help`, in this order.
PANELS: Final = {
    "Run": "up demo worker beside serve map warm latest avro",
    "Bring in": "ingest feed topics",
    "Read": "tail arrivals sink export forecast fill replay",
    "Look and check": "doctor verify scores archive atlas dlq forget models config contracts bench",
    "Learn": "train calibrate evaluate refresh synth experiment",
}
_PANEL_OF: Final = {name: panel for panel, names in PANELS.items() for name in names.split()}

ERRORS = Console(stderr=True)


def build(only: str | None = None) -> typer.Typer:
    """Returns the `pathcast` application with every command that an installed package registers, or `only` one."""
    app = typer.Typer(
        name="pathcast",
        help="Forecasts where moving things will be: live GPS pings in, next-step forecasts and gap fills out.",
        epilog="Try it: pathcast demo --seconds 60",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    place = {name: number for number, name in enumerate(_PANEL_OF)}
    for point in sorted(entry_points(group=GROUP), key=lambda point: place.get(point.name, len(place))):
        if only not in (None, point.name):
            continue
        command, panel = point.load(), _PANEL_OF.get(point.name)  # another package's command is in a panel of its own
        if isinstance(command, typer.Typer):
            for own in command.registered_commands:  # changed in place, as Typer stores the help texts only there
                own.help = _flowing(own.help or getattr(own.callback, "__doc__", None))
            app.add_typer(command, name=point.name, rich_help_panel=panel)
        else:
            app.command(name=point.name, help=_flowing(command.__doc__), rich_help_panel=panel)(command)
    return app


def _flowing(text: str | None) -> str:
    """Returns a help text whose paragraphs are a line each, so that only the terminal breaks them: Rich would keep our
    line ends, too. Examples, which are indented, keep their line ends."""
    paragraphs = cleandoc(text or "").split("\n\n")
    return "\n\n".join(one if one.startswith(" ") else one.replace("\n", " ") for one in paragraphs)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pathcast {version('pathcast')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand != LOGS_ITSELF and not context.obj:
        for line in unknown_variables(context):
            ERRORS.print(f"warning: {line}", highlight=False, soft_wrap=True, markup=False)


def unknown_variables(context: typer.Context) -> list[str]:
    """Returns a line for each variable of ours in the environment that no command reads."""
    if not environment.unknown(os.environ, environment.known(context.find_root().command)):
        return []
    # It may be another command's: the application may have been built with one alone.
    return environment.unknown(os.environ, environment.known(typer.main.get_command(build())))


def _asked(arguments: Sequence[str]) -> tuple[str, ...]:
    """Returns the name of the command that is asked for, if that is all that has to be imported and described. Help,
    completion and mistyped names want all of them."""
    first = arguments[0] if arguments else ""
    known = {point.name for point in entry_points(group=GROUP)}
    return (first,) if first in known and first != LOOK_AT_OTHERS else ()


def main(*, is_part: bool = False) -> NoReturn:
    """Runs one command. An error that a user can cause is one line on stderr and exit 1; a traceback is our own bug.

    A part has the environment of all parts of its parent, which has looked for unknown variables itself: to do so again
    takes 50 MB, as all commands are imported.
    """
    shown = sys.excepthook
    sys.excepthook = presses = _Presses(shown)
    try:
        # Not the application itself: called, it puts Typer's excepthook in the place of ours.
        typer.main.get_command(build(*_asked(sys.argv[1:])))(prog_name="pathcast", standalone_mode=True, obj=is_part)
    except (OSError, ValueError, RuntimeError) as error:
        said = one_line(error).replace("[", r"\[")
        ERRORS.print(f"[bold red]error:[/] {said}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_FAILURE)
    except ImportError as error:
        if presses.came or _is_of_a_press(error):
            sys.exit(INTERRUPTED)
        if not isinstance(error, ModuleNotFoundError):
            raise
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        extra = "train" if sys.argv[1:2] and sys.argv[1] in TRAINING else EXTRAS[package]
        said = rf"this needs {package}, which serving does not: pip install 'pathcast\[{extra}]'"
        said += rf" (in a clone: pip install -e '.\[{extra}]')"
        ERRORS.print(f"[bold red]error:[/] {said}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_FAILURE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        sys.excepthook = shown
    sys.exit(0)


class _Presses:
    """Notes a Ctrl-C that C code prints, through `sys.excepthook`, and replaces by an ImportError: numpy's import_array
    does, while an extension module is imported."""

    def __init__(self, otherwise: Callable[..., None]) -> None:
        self.came = False
        self._otherwise = otherwise

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            self.came = True
        else:
            self._otherwise(kind, error, trace)


def _is_of_a_press(error: BaseException) -> bool:
    """Returns whether an error was raised in the place of a Ctrl-C."""
    below = error.__cause__ or error.__context__
    return below is not None and (isinstance(below, KeyboardInterrupt) or _is_of_a_press(below))


def one_line(error: Exception) -> str:
    """Returns the error's text without line ends or other control characters of a terminal."""
    return escaped(" ".join(_said(error).split()) or type(error).__name__)


def _said(error: Exception) -> str:
    """Returns the error's text; the system's own, of a file, with the name first and without its number."""
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str | os.PathLike):
        return f"{os.fspath(error.filename)}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error)
