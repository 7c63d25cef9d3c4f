"""Says what commands were called before, and lets one command have others below it, as `train` has `train synth`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

# By the name of 0.2.0: what it is now. Old names go on working for one release. What follows them stays as it was,
# but for OLD_OPTIONS.
OLD_NAMES: Final = {
    "archive forget": "forget --archive-only",
    "archive list": "dev archive --days",
    "archive run": "beside archive",
    "archive show": "dev archive",
    "arrivals run": "beside arrivals",
    "arrivals tail": "tail arrivals",
    "atlas build": "train atlas",
    "atlas diff": "models atlas",
    "atlas export": "export atlas",
    "atlas list": "models atlas",
    "atlas run": "beside atlas",
    "atlas show": "models atlas",
    "avro run": "beside avro",
    "bench": "dev bench",
    "calibrate": "train calibrate",
    "config show": "dev config",
    "contracts": "dev contracts",
    "experiment": "train experiment",
    "latest run": "beside latest",
    "models decisions": "models list --decisions",
    "models guard": "beside guard",
    "refresh": "train refresh",
    "scores run": "beside scores",
    "scores show": "models scores",
    "sink": "export",
    "synth": "train synth",
    "topics": "dev topics",
    "warm": "worker --warm",
}

# Options of services that `beside` runs: they had no name of their service before it, as `--every` of `archive run`.
OLD_OPTIONS: Final = {
    "archive": ("--every", "--group", "--retention"),
    "arrivals": ("--every", "--group"),
    "atlas": ("--every", "--group", "--retention"),
    "avro": ("--group",),
    "guard": ("--every", "--last", "--since"),
    "latest": ("--group", "--max-entities"),
    "scores": ("--group", "--max-entities"),
}


def renamed(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of `pathcast` with the present name of the command, and says on stderr if that is new."""
    if arguments[:1] == ["demo"] and any(one.partition("=")[0] == "--data" for one in arguments):
        typer.echo("pathcast demo --data is now pathcast try", err=True)
        return ["try", *_data_first(arguments[1:])]
    for words in (2, 1):
        old = " ".join(arguments[:words])
        if (new := OLD_NAMES.get(old)) is not None:
            typer.echo(f"pathcast {old} is now pathcast {new}", err=True)
            return [*new.split(), *(_renamed_option(one, new) for one in arguments[words:])]
    return list(arguments)


def _data_first(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of `demo` as `try` takes them: with the value of --data in front, without its name."""
    joined = next((one for one in arguments if one.startswith("--data=")), None)
    if joined is not None:
        return [joined.partition("=")[2], *(one for one in arguments if one != joined)]
    at = list(arguments).index("--data")
    return [*arguments[at + 1 : at + 2], *arguments[:at], *arguments[at + 2 :]]


def _renamed_option(argument: str, new: str) -> str:
    """Returns an option of an old command as the new one has it."""
    command, _, service = new.partition(" ")
    flag, equals, value = argument.partition("=")
    if command != "beside" or flag not in OLD_OPTIONS[service]:
        return argument
    return f"--{service}-{flag.removeprefix('--')}{equals}{value}"


class WithCommandsBelow(TyperGroup):
    """A command with options of its own that also has commands below it. What begins with the name of none of them is
    for itself: Typer's own groups would take `train --data a.csv b.csv` for a command `b.csv`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if args and (below := self.commands.get(args[0])) is not None:
            above = self.context_class(TyperGroup(name=self.name), info_name=info_name, parent=parent)
            return below.make_context(args[0], args[1:], parent=above, **extra)
        if args[:1] == ["--help"]:
            return super().make_context(info_name, args, parent, **extra)  # which shows the commands below it, too
        if not args and extra.get(
            "resilient_parsing"
        ):  # a shell completes the next word: a command below, or an option
            options = [one for one in self.params if one.param_type_name == "option"]
            both = TyperGroup(name=self.name, commands=dict(self.commands), params=options)
            return both.make_context(info_name, args, parent, **extra)
        own = TyperCommand(
            self.name,
            callback=self.callback,
            params=self.params,
            help=self.help,
            rich_markup_mode=self.rich_markup_mode,
        )
        return own.make_context(info_name, args, parent, **extra)
