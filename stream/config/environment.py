"""Finds unknown PATHCAST_ variables, and the name that was probably meant; and fills in those that a running
`pathcast up` knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, MutableMapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Final

from stream.config import failpoints, http_access
from stream.config.home import BOOTSTRAP, find_fleet
from stream.config.http_access import LOOPBACK

OURS: Final = "PATHCAST_"
# They are read from the environment or from a file that it names, never from an option, because `ps` would show that.
# Secrets of `pathcast ingest http` (stream/ingest/http/guards.py); the name of a map follows the second.
INGEST_TOKEN: Final = "PATHCAST_INGEST_TOKEN"
INGEST_HMAC: Final = "PATHCAST_INGEST_HMAC_"
MQTT_PASSWORD: Final = "PATHCAST_MQTT_PASSWORD"  # of `pathcast ingest mqtt`
FEED_HEADERS: Final = "PATHCAST_FEED_HEADERS"  # of the pollers: keys, a line each
TRACE_KEY: Final = "PATHCAST_TRACE_KEY"  # of the hashes that stand for entities in traces (stream.tracing)
SECRETS: Final = (
    *("PATHCAST_KAFKA_PASSWORD", "PATHCAST_REDIS_PASSWORD", http_access.TOKEN, http_access.SERVE_TOKEN),
    http_access.MAP_TOKEN,
    TRACE_KEY,
)
# Our own tests and CI read these; they are no settings.
_OF_OTHERS: Final = ("PATHCAST_TEST_", "PATHCAST_REQUIRE_", INGEST_HMAC)


def known(command: Any) -> set[str]:
    """Returns every variable from which a command of Typer, its subcommands or our secrets are read."""
    secrets = (*SECRETS, INGEST_TOKEN, MQTT_PASSWORD, FEED_HEADERS)
    return {*_of_options(command), *secrets, *(f"{name}_FILE" for name in secrets), failpoints.VARIABLE}


def unknown(environment: Iterable[str], names: Collection[str]) -> list[str]:
    """Returns a line for each variable of ours in `environment` that is not among `names`, with the nearest name if
    there is one."""
    unknown = (name for name in sorted(environment) if name.startswith(OURS) and not name.startswith(_OF_OTHERS))
    return [_line(name, names) for name in unknown if name not in names]


def _line(name: str, names: Collection[str]) -> str:
    # Without the common prefix, which would make any two names similar.
    nearest = get_close_matches(name.removeprefix(OURS), [other.removeprefix(OURS) for other in names], 1)
    meant = f"; is {OURS}{nearest[0]} meant?" if nearest else ""
    return f"the environment variable {name} is no setting of pathcast and has no effect{meant}"


def _of_options(command: Any) -> Iterator[str]:
    # By attribute and not by type, because newer releases of Typer contain their own Click.
    for parameter in command.params:
        yield from _variables(parameter)
    for below in getattr(command, "commands", {}).values():
        yield from _of_options(below)


def _variables(parameter: Any) -> Sequence[str]:
    variables: str | Sequence[str] = parameter.envvar or ()
    return (variables,) if isinstance(variables, str) else variables


def fill_in(command: Any, words: Sequence[str], environment: MutableMapping[str, str]) -> None:
    """Sets the variables that a command line reads, that nobody has given, and that a `pathcast up` in PATHCAST_DIR, or
    in the usual directory, knows. A Kafka of its own is another fleet's: then nothing is set.

    Raises RuntimeError if the command would ask a server that has ended with its `pathcast up`, and as `find_fleet`.
    """
    words = list(words)
    while words and (below := getattr(command, "commands", {}).get(words[0])) is not None:
        command, words = below, words[1:]
    reads = {variable: one for one in command.params for variable in _variables(one)}
    if "--help" in words or (fleet := find_fleet(environment)) is None:
        return
    given = {name: value for name, value in environment.items() if value}
    given |= {name: value for name, one in reads.items() if (value := _value_of(one, words)) is not None}
    theirs = fleet.variables.get(BOOTSTRAP, "")
    if given.get(BOOTSTRAP, theirs).replace("localhost", LOOPBACK) != theirs.replace("localhost", LOOPBACK):
        return
    for name in fleet.variables.keys() & reads.keys() - given.keys():
        if name in fleet.ended:
            flag = reads[name].opts[0]
            raise RuntimeError(
                f"pathcast up in {fleet.home.root} has ended, and with it the server at {fleet.variables[name]}: "
                f"start it again, or give {flag}"
            )
        environment[name] = fleet.variables[name]


def _value_of(parameter: Any, words: Sequence[str]) -> str | None:
    """Returns what the words say of an option; None if nothing."""
    for word, following in pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        if flag in parameter.opts:
            return value if equals else following
    return None
