"""`pathcast dev config`: shows the worker's settings and where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from stream.config import environment
from stream.config.security import shown

MASK = "***"
COMMAND = "worker"

HELP = """Show every setting of `pathcast worker`, its value, and where the value comes from.

Give it the worker's own options. Nothing is connected to, and passwords and tokens are shown as ***.

[bold]Examples[/]

  pathcast dev config
  pathcast dev config --bootstrap kafka:9092 --workers 4
  PATHCAST_REDIS=redis://redis:6379/0 pathcast dev config --json
"""


class Setting(NamedTuple):
    name: str  # the option, or a secret's environment variable
    value: str | int | float | bool | None
    source: str  # "default", "option" or "environment"
    variable: str | None


def config(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="print JSON, for programs")] = False
) -> None:
    from stream.commands.main import build

    commands: Any = typer.main.get_command(build(COMMAND))
    settings = [*_of(commands.commands[COMMAND], context.args), *_secrets()]
    if json:
        typer.echo(msgspec.json.encode([setting._asdict() for setting in settings]))
        return
    width = max(len(setting.name) for setting in settings)
    for setting in settings:
        value = "not set" if setting.value is None else setting.value
        origin = f"{setting.source} {setting.variable}" if setting.source == "environment" else setting.source
        typer.echo(f"{setting.name:{width}}  {value}  ({origin})")


config.__doc__ = HELP
config.context_settings = {"allow_extra_args": True, "ignore_unknown_options": True}  # type: ignore[attr-defined]


def _of(command: Any, arguments: list[str]) -> Iterator[Setting]:
    """Yields the options of the command as these arguments and the environment set them. Raises Typer's errors for bad
    usage."""
    context = command.make_context(COMMAND, list(arguments))
    for parameter in command.params:
        if not parameter.hidden and parameter.name != "help":
            source = context.get_parameter_source(parameter.name).name.lower()
            origin = {"commandline": "option", "environment": "environment"}.get(source, "default")
            yield Setting(parameter.opts[0], _value(context.params[parameter.name]), origin, parameter.envvar)


def _value(value: Any) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | int | float):
        return value
    return shown(str(value)) or None  # a URL may contain a password, in any option


def _secrets() -> Iterator[Setting]:
    """Yields whether each secret is set, and by which variable. Files are named, but not read."""
    for name in environment.SECRETS:
        if os.environ.get(name):
            yield Setting(name, MASK, "environment", name)
        elif file := os.environ.get(f"{name}_FILE"):
            yield Setting(name, f"{MASK} in {file}", "environment", f"{name}_FILE")
        else:
            yield Setting(name, None, "default", name)
