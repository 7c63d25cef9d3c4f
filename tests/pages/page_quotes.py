"""The commands that pages name within their text, such as `pathcast verify --registry URL`, and what of them this
version does not have. Tests import this; it tests nothing itself.

A page names more than it shows: options in tables, commands in a sentence, examples in a help text. They are not run,
but each word that has to be a command, an option, one of several values, a module, a file or a test is looked up.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from enum import EnumType
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from page_blocks import ROOT, SHELLS

from stream.commands.main import build
from stream.commands.names import WithCommandsBelow, renamed

_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^( *)```([\w-]*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_|:,/.-]*|\.\.\.|<.*>")
_BETWEEN = ("|", "&&", "||", ";", "&", ">")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
# Programs of others, and what compose is told, by how a quote begins.
_FOREIGN = re.compile(
    r"(?:docker|kubectl|helm|kafka-[a-z-]+\.sh|torchrun|du|pip|down|--build-arg|python[\d.]* -m venv)\b"
)
_FENCED_COMMAND = re.compile(r"^ *(?:\$ )?(?:\.venv/bin/)?(?:pathcast|python[\d.]*|pytest) .*$", re.MULTILINE)
_EXTRAS = re.compile(r"pathcast\[([\w,-]+)\]|'\.\[([\w,-]+)\]'")


def quotes(text: str) -> Iterator[str]:
    """What stands between backticks outside of blocks. It may go over two lines; tables write \\| for |."""
    for found in _CODE.finditer(_FENCED.sub("", text)):
        yield " ".join(found[1].replace("\\|", "|").split())


def in_other_blocks(text: str) -> list[str]:
    """Lines that are commands in blocks of another language, which tests/pages/test_pages.py does not look at."""
    blocks = [found[3] for found in _BLOCK.finditer(text) if found[2] not in SHELLS]
    return [line for block in blocks for line in _FENCED_COMMAND.findall(block)]


def extras(text: str) -> set[str]:
    """The extras of this package that a text names: pathcast[s3,readers] and '.[dev]'."""
    return {name for found in _EXTRAS.finditer(text) for name in (found[1] or found[2]).split(",")}


def unknown_options(quoted: str) -> list[str]:
    """The options that no command has, whatever command they are quoted without."""
    if _FOREIGN.match(quoted):
        return []
    return [one for one in _OPTION.findall(quoted) if one not in _all_options() and one not in _pytest_options()]


def examples() -> Iterator[str]:
    """The commands in the help texts."""
    for text in _helps(_root()):
        yield from (line.strip() for line in text.splitlines() if line.startswith("  pathcast "))


def _helps(command: Any) -> Iterator[str]:
    yield command.help or ""
    for below in getattr(command, "commands", {}).values():
        yield from _helps(below)


def wrong(quoted: str, *, of_its_day: bool = False) -> str | None:
    """Returns what is wrong with a quoted command; None if nothing is, or if it is no command of ours. A text of its
    day may have old names."""
    try:
        words = shlex.split(quoted.removeprefix("$ "), comments=True)
    except ValueError:
        return None  # a text with an apostrophe
    ends = [place for place, word in enumerate(words) if word in _BETWEEN]
    commands = [words[begin + 1 : end] for begin, end in pairwise([-1, *ends, len(words)])]
    return next((why for one in commands if one and (why := _wrong(*one, of_its_day=of_its_day))), None)


def _wrong(program: str, *rest: str, of_its_day: bool) -> str | None:
    match program.removeprefix(".venv/bin/"):
        case "pathcast":
            return _pathcast(*(renamed(rest) if of_its_day else rest))
        case "python" | "python3.11":
            return _python(*rest)
        case "pytest":
            return _pytest(*rest)
        case name if name in _root().commands and any(word.startswith("--") for word in rest):
            return _pathcast(
                *(renamed((name, *rest)) if of_its_day else (name, *rest))
            )  # as in a text that has said what it is about
    return None


@cache
def _root() -> Any:
    return typer.main.get_command(build())


def _pathcast(*words: str) -> str | None:
    at, left, way = _root(), list(words), ["pathcast"]
    while (below := getattr(at, "commands", None)) and left and not left[0].startswith("-"):
        word = left.pop(0)
        if _PLACEHOLDER.fullmatch(word):
            return None
        if word not in below and isinstance(at, WithCommandsBelow):
            break  # an argument of its own
        if word not in below:
            return f"{' '.join(way)} has no command {word}"
        at, way = below[word], [*way, word]
    # `dev config` takes a worker's options as they are
    parameters = [*at.params, *(_root().commands["worker"].params if at.context_settings else ())]
    options = {name: one for one in parameters for name in (*one.opts, *one.secondary_opts)}
    for place, word in enumerate(left):
        name, equals, value = word.partition("=")
        if name == "--help" or not re.match(r"--?[a-z]", name):
            continue
        if name not in options:
            return f"{' '.join(way)} has no option {name}"
        value = value if equals else next(iter(left[place + 1 :]), "")
        choices = _choices(options[name])
        if choices and not _PLACEHOLDER.fullmatch(value or "...") and value.lower() not in choices:
            return f"{' '.join(way)} {name} takes {', '.join(sorted(choices))}, not {value}"
    return None


def _choices(option: Any) -> set[str]:
    kind = option.type_descriptor.annotation
    return {str(one.value).lower() for one in kind} if isinstance(kind, EnumType) else set()


def _python(*words: str) -> str | None:
    """Options of modules and scripts are looked up in their source."""
    if words[:1] == ("-m",) and words[1:2] not in ((), ("venv",), ("pip",)):
        found = importlib.util.find_spec(words[1])
        if found is not None and found.submodule_search_locations is not None:  # of a package, this is what runs
            found = importlib.util.find_spec(f"{words[1]}.__main__")
        if found is None or found.origin is None:
            return f"there is no module {words[1]} that can run"
        source, rest = found.origin, words[2:]
    elif words and words[0].endswith(".py"):
        source, rest = str(ROOT / words[0]), words[1:]
        if not (ROOT / words[0]).is_file():
            return f"there is no {words[0]}"
    else:
        return None
    text = Path(source).read_text(encoding="utf-8")
    return next((f"{source} has no {one}" for one in rest if one.startswith("--") and one not in text), None)


def _pytest(*words: str) -> str | None:
    for word in words:
        path, _, name = word.partition("::")
        if "/" in path and not path.startswith("-") and not (ROOT / path).exists():
            return f"there is no {path}"
        if name and name != "..." and f"def {name.partition('[')[0]}(" not in (ROOT / path).read_text():
            return f"{path} has no {name}"
        if word.startswith("--") and word.partition("=")[0] not in _pytest_options():
            return f"pytest has no option {word}"
    return None


@cache
def _pytest_options() -> set[str]:
    return {*_OPTION.findall((ROOT / "tests" / "conftest.py").read_text()), "--pdb", "--durations"}


@cache
def _all_options() -> set[str]:
    def of(command: Any) -> Iterator[str]:
        for parameter in command.params:
            yield from (*parameter.opts, *parameter.secondary_opts)
        for below in getattr(command, "commands", {}).values():
            yield from of(below)

    return {*of(_root()), "--help"}
