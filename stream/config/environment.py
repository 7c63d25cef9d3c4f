"""Which PATHCAST_ variables mean something, and which name was probably meant by another. Knows names, no values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Final

from stream.config import failpoints, http_access

OURS: Final = "PATHCAST_"
# They are read from the environment or from a file that it names, never from an option: `ps` would show that.
SECRETS: Final = ("PATHCAST_KAFKA_PASSWORD", "PATHCAST_REDIS_PASSWORD", http_access.TOKEN)
# What our own tests and CI are told by; they are no settings.
_OF_TESTS: Final = ("PATHCAST_TEST_", "PATHCAST_REQUIRE_")


def known(command: Any) -> set[str]:
    """Every variable that a command of Typer, the commands below it or our secrets are read from."""
    return {*_of_options(command), *SECRETS, *(f"{name}_FILE" for name in SECRETS), failpoints.VARIABLE}


def unknown(environment: Iterable[str], names: Collection[str]) -> list[str]:
    """A line for each variable of ours in `environment` that is not among `names`, with the nearest name if there is
    one."""
    strangers = (name for name in sorted(environment) if name.startswith(OURS) and not name.startswith(_OF_TESTS))
    return [_line(name, names) for name in strangers if name not in names]


def _line(name: str, names: Collection[str]) -> str:
    # Without what all have in common, which would make any two alike.
    nearest = get_close_matches(name.removeprefix(OURS), [other.removeprefix(OURS) for other in names], 1)
    meant = f"; is {OURS}{nearest[0]} meant?" if nearest else ""
    return f"the environment variable {name} is no setting of pathcast and has no effect{meant}"


def _of_options(command: Any) -> Iterator[str]:
    # By what it has and not by what it is: newer releases of Typer bring a Click of their own.
    for parameter in command.params:
        found = parameter.envvar or ()
        yield from (found,) if isinstance(found, str) else found
    for below in getattr(command, "commands", {}).values():
        yield from _of_options(below)
