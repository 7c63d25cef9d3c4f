"""What a Redis refuses at times, and with which words. `RedisServer.refuse` switches a kind on."""

from __future__ import annotations

from typing import Final, NamedTuple

from redis_commands import ALWAYS, GROWS, WRITE, Command


class Refusal(NamedTuple):
    text: str
    of: int  # flags of commands that are refused; 0: of all that have no flag ALWAYS
    in_scripts: bool = False  # each command of a script is judged, and not the call of the script
    ping: bool = False  # also PING


REFUSALS: Final[dict[str, Refusal]] = {
    "OOM": Refusal("OOM command not allowed when used memory > 'maxmemory'.", GROWS, in_scripts=True),
    "READONLY": Refusal("READONLY You can't write against a read only replica.", WRITE, in_scripts=True),
    "MISCONF": Refusal(
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that"
        " may modify the data set are disabled, because this instance is configured to report errors during writes if"
        " RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about"
        " the RDB error.",
        WRITE,
        in_scripts=True,
        ping=True,
    ),
    "NOREPLICAS": Refusal("NOREPLICAS Not enough good replicas to write.", WRITE, in_scripts=True),
    "LOADING": Refusal("LOADING Redis is loading the dataset in memory", 0),
    "MASTERDOWN": Refusal("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", 0),
    "BUSY": Refusal("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", 0),
}


def judge(kinds: set[str], name: bytes, command: Command, *, in_script: bool) -> str | None:
    """Returns with which words a command is refused, or None."""
    for kind in kinds:
        refusal = REFUSALS[kind]
        if in_script and not refusal.in_scripts:
            continue
        refused = command.flags & refusal.of if refusal.of else not command.flags & ALWAYS
        if refused or (refusal.ping and name == b"PING" and not in_script):
            return refusal.text
    return None
