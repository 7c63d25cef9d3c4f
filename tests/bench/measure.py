"""Runs a benchmark for developers of the hot path: README.md says which there are, and what for.

.venv/bin/python tests/bench/measure.py NAME [--entities 1000 ...]    the options are the fields of its Options
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from stream.bench.console import showing, tell
from stream.bench.harness.servers import servers

# Of each there is a module, such as bench_worker_step, with its `Options` and `run`.
NAMES: Final = ("step", "worker-step", "scale", "takeover", "start", "swap", "atlas", "transit")
WITHOUT_SERVERS: Final = ("step", "atlas", "transit")
AS_WRITTEN: Final = argparse.RawDescriptionHelpFormatter


def main(arguments: Sequence[str]) -> None:
    """Runs the benchmark that the first argument names. Exits with 2 for bad usage, with 1 if a process or a server
    stops."""
    names = argparse.ArgumentParser("measure.py", description=__doc__, formatter_class=AS_WRITTEN)
    names.add_argument("name", choices=NAMES)
    name = names.parse_args(arguments[:1]).name
    module = importlib.import_module(f"bench_{name.replace('-', '_')}")
    asked = parser_of(module.Options, name, module.__doc__ or "").parse_args(arguments[1:])
    options = module.Options(**{one.name: getattr(asked, one.name, None) for one in fields(module.Options)})
    try:
        with showing() as show:
            if name in WITHOUT_SERVERS:
                report = module.run(options, show)
            else:
                with servers(show, bootstrap=asked.bootstrap, redis_url=asked.redis) as found:
                    report = module.run(options, found, show)
    except (RuntimeError, ConnectionError, ValueError) as error:
        sys.exit(f"error: {error}")
    command = shlex.join(["python", "tests/bench/measure.py", *arguments])
    tell(replace(report, command=command), json=asked.json, record=asked.record)


def parser_of(options: type[Any], name: str, text: str) -> argparse.ArgumentParser:
    """Returns the parser for a benchmark whose options are the fields of a dataclass with defaults."""
    parser = argparse.ArgumentParser(f"measure.py {name}", description=text, formatter_class=AS_WRITTEN)
    for one in fields(options):
        if (default := one.default) is not None:  # None: nobody chooses it
            told = ",".join(map(str, default)) if isinstance(default, tuple) else default
            flag = f"--{one.name.replace('_', '-')}"
            parser.add_argument(flag, type=reader_of(default), default=default, help=f"default: {told}")
    if name not in WITHOUT_SERVERS:
        parser.add_argument("--bootstrap", help="a running Kafka, host:port; default: an Apache Kafka of our own")
        parser.add_argument("--redis", help="a running Redis; default: one of our own")
    parser.add_argument("--json", action="store_true", help="all numbers, unrounded")
    parser.add_argument("--record", action="store_true", help="put the results into reports/bench.md")
    return parser


def reader_of(default: Any) -> Callable[[str], Any]:
    """Returns the function that reads an option with this default: several values stand between commas."""
    if not isinstance(default, tuple):
        return type(default)

    def read(text: str) -> tuple[Any, ...]:
        return tuple(type(default[0])(part) for part in text.split(","))

    return read


if __name__ == "__main__":
    main(sys.argv[1:])
