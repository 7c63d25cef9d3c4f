"""What a Redis refuses at times, and with which words. `RedisServer.refuse` switches a kind on."""

from __future__ import annotations

from typing import Final, NamedTuple

from redis_commands import ALWAYS, GROWS, WRITE, Command

READONLY: Final = "READONLY You can't write against a read only replica."


class Refusal(NamedTuple):
    """What one kind refuses. A command of a script is judged by itself, until the script has written something."""

    text: str
    of: int  # flags of commands that are refused; 0: all that have no flag ALWAYS, and scripts as a whole
    ping: bool = False  # also PING
    writes: str | None = None  # another text for commands that write
    known_first: bool = False  # a script that the server does not know is unknown all the same


# In the order in which Redis looks at them.
REFUSALS: Final[dict[str, Refusal]] = {
    "OOM": Refusal("OOM command not allowed when used memory > 'maxmemory'.", GROWS),
    "MISCONF": Refusal(
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that"
        " may modify the data set are disabled, because this instance is configured to report errors during writes if"
        " RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about"
        " the RDB error.",
        WRITE,
        ping=True,
    ),
    "NOREPLICAS": Refusal("NOREPLICAS Not enough good replicas to write.", WRITE),
    "READONLY": Refusal(READONLY, WRITE),
    "MASTERDOWN": Refusal(
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        0,
        writes=READONLY,
        known_first=True,
    ),
    "LOADING": Refusal("LOADING Redis is loading the dataset in memory", 0),
    "BUSY": Refusal("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", 0),
}


def judge(kinds: set[str], name: bytes, command: Command, *, is_known: bool = True) -> str | None:
    """Returns with which words a command of a client is refused, or None. An unknown script is no `is_known`."""
    for kind, refusal in REFUSALS.items():
        if kind not in kinds:
            continue
        if refusal.of:
            if command.flags & refusal.of or (refusal.ping and name == b"PING"):
                return refusal.text
        elif not command.flags & ALWAYS and (is_known or not refusal.known_first):
            return refusal.writes if refusal.writes and command.flags & WRITE else refusal.text
    return None


def judge_in_script(kinds: set[str], command: Command) -> str | None:
    """Returns with which words a command of a script is refused, or None."""
    return next((one.text for kind, one in REFUSALS.items() if kind in kinds and command.flags & one.of), None)
