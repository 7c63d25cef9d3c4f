"""Defines the root command, which finds its commands by entry points."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version
from inspect import cleandoc
from types import TracebackType
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from stream.commands.names import WithCommandsBelow, renamed
from stream.config import environment
from stream.config.reasons import list_reasons
from stream.wire.escape import escaped

GROUP: Final = "pathcast.commands"  # of entry points
LOGS_ITSELF = "worker"  # the command that has a log, and warns there
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
# The panels of `pathcast --help`, in this order. What is below a command is named by its entry point, as `train.synth`.
PANELS: Final = {
    "Run": "up try worker serve beside",
    "Bring in": "ingest feed arrivals",
    "Read": "tail forecast fill replay export",
    "Look and check": "doctor verify models dlq forget",
    "Learn": "train evaluate",
}
_PANEL_OF: Final = {name: panel for panel, names in PANELS.items() for name in names.split()}
# Commands that need not be looked for: `serve --map` has the map, the page's last line names the demo, and `transit`
# has no more than a replay yet.
HIDDEN: Final = ("demo", "dev", "map", "transit")
# Commands that take what a running `pathcast up` knows; others have servers of their own, are its parts, or read files.
AT_HOME: Final = (
    *("ingest", "feed", "arrivals", "tail", "export", "doctor", "verify", "models", "dlq", "forget"),
    *("dev archive", "dev topics"),
)
NOT_AT_HOME: Final = "export redis"  # whose --redis is where it writes, and not where states are
DEV: Final = "What operators and developers need now and then: topics, settings, the archive, schemas, and benchmarks."

ERRORS = Console(stderr=True)


def build(only: str | None = None) -> typer.Typer:
    """Returns the `pathcast` application with every command that an installed package registers, or `only` one."""
    app = typer.Typer(
        name="pathcast",
        help="Forecasts where moving things will be: live GPS pings in, next-step forecasts and gap fills out.",
        epilog="Try it: pathcast demo, or pathcast try FILE with your own. For operators and developers: pathcast dev",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    place = {name: number for number, name in enumerate(_PANEL_OF)}
    by_name: dict[str, dict[str, Any]] = {}  # of the commands at the top; those below them by name, and itself by ""
    for point in sorted(entry_points(group=GROUP), key=lambda point: place.get(point.name, len(place))):
        name, _, below = point.name.partition(".")
        if only in (None, name):
            by_name.setdefault(name, {})[below] = point.load()
    for name, commands in by_name.items():
        # Another package's command is in a panel of its own.
        _add(app, name, commands, rich_help_panel=_PANEL_OF.get(name), hidden=name in HIDDEN)
    return app


def _add(app: typer.Typer, name: str, commands: dict[str, Any], **shown: Any) -> None:
    """Adds a command, which may be a group of commands or have others below it."""
    own = commands.pop("", None)
    if not commands and not isinstance(own, typer.Typer):
        settings = getattr(own, "context_settings", None)
        app.command(name=name, help=_flowing(own.__doc__), context_settings=settings, **shown)(own)
        return
    if isinstance(own, typer.Typer):
        group = own
        for one in group.registered_commands:  # changed in place, as Typer stores the help texts only there
            one.help = _flowing(one.help or getattr(one.callback, "__doc__", None))
    elif own is None:
        group = typer.Typer(help=DEV, no_args_is_help=True)
    else:
        group = typer.Typer(cls=WithCommandsBelow, help=_flowing(own.__doc__))
        group.callback()(own)
    for below, command in sorted(commands.items()):
        _add(group, below, {"": command})
    app.add_typer(group, name=name, **shown)


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


def _only_command(arguments: Sequence[str]) -> tuple[str, ...]:
    """Returns the name of the command that is asked for, if that is all that has to be imported and described. Help,
    completion and mistyped names want all of them."""
    first = arguments[0] if arguments else ""
    known = {point.name.partition(".")[0] for point in entry_points(group=GROUP)}
    return (first,) if first in known else ()


def main(*, is_part: bool = False) -> NoReturn:
    """Runs one command. An error that a user can cause is one line on stderr and exit 1; a traceback is our own bug.

    A part has the environment of all parts of its parent, which has looked for unknown variables itself: to do so again
    takes 50 MB, as all commands are imported.
    """
    shown = sys.excepthook
    sys.excepthook = presses = _Presses(shown)
    try:
        # Not the application itself: called, it puts Typer's excepthook in the place of ours.
        sys.argv[1:] = renamed(sys.argv[1:])
        command = typer.main.get_command(build(*_only_command(sys.argv[1:])))
        first, both = "".join(sys.argv[1:2]), " ".join(sys.argv[1:3])
        if not is_part and (first in AT_HOME or both in AT_HOME) and both != NOT_AT_HOME:
            environment.fill_in(command, sys.argv[1:], os.environ)
        command(prog_name="pathcast", standalone_mode=True, obj=is_part)
    except (OSError, ValueError, RuntimeError) as error:
        line = one_line(error).replace("[", r"\[")
        ERRORS.print(f"[bold red]error:[/] {line}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_FAILURE)
    except ImportError as error:
        if presses.noticed or _is_of_a_press(error):
            sys.exit(INTERRUPTED)
        if not isinstance(error, ModuleNotFoundError):
            raise
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        # Training needs torch, whatever is missing first.
        extra = (
            "train" if sys.argv[1:2] == ["train"] and sys.argv[2:3] not in (["atlas"], ["synth"]) else EXTRAS[package]
        )
        line = rf"this needs {package}, which serving does not: pip install 'pathcast\[{extra}]'"
        line += rf" (in a clone: pip install -e '.\[{extra}]')"
        ERRORS.print(f"[bold red]error:[/] {line}", highlight=False, soft_wrap=True)
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
        self.noticed = False
        self._otherwise = otherwise

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            self.noticed = True
        else:
            self._otherwise(kind, error, trace)


def _is_of_a_press(error: BaseException) -> bool:
    """Returns whether an error was raised in the place of a Ctrl-C."""
    return any(isinstance(one, KeyboardInterrupt) for one in list_reasons(error)[1:])


def one_line(error: Exception) -> str:
    """Returns the error's text without line ends or other control characters of a terminal."""
    return escaped(" ".join(_text_of(error).split()) or type(error).__name__)


def _text_of(error: Exception) -> str:
    """Returns the error's text; the system's own, of a file, with the name first and without its number."""
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str | os.PathLike):
        return f"{os.fspath(error.filename)}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return str(error)
