"""Places at which a process can be made to kill itself, so that a test can see what it leaves behind.

    PATHCAST_KILL_POINT=after_commit:3    SIGKILL to ourselves when `after_commit` is reached for the third time

They lie between the writes of delivery (`NAMES`) and of the registry (`OF_REGISTRY`), so that a test can stop after any
of them (`tests/simulation`, `tests/chaos`, `tests/stream/registry`).
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "PATHCAST_KILL_POINT"
NAMES: Final = {
    "after_fence": "whoever published for the partition before us cannot any more (exactly_once)",
    "after_claim": "the epoch is raised in Redis, and not yet in Kafka",
    "before_replay": "the epoch stands in both",
    "before_publish": "a batch is folded, and nothing of it is sent",
    "after_publish": "the broker has every answer, and no offset",
    "before_end": "the transaction has answers and offsets, and has not ended (exactly_once)",
    "after_commit": "the offsets are committed, and the input is not retired",
    "before_checkpoint": "a checkpoint is due, and not begun",
    "within_checkpoint": "one call to Redis of several has written a piece of a leg, and the offset has not moved",
    "between_legs": "a checkpoint's first leg is written, others are not, and the offset has not moved",
    "after_checkpoint": "the checkpoint is written, and we have not noted it",
}

OF_REGISTRY: Final = {
    "before_file": "a file of a version is about to be written, after all those before it",
    "before_manifest": "the files of a version are written, and its manifest is not",
    "before_rename": "files and manifest lie in a folder that nobody reads (a local registry, or a cache)",
    "after_publication": "the version exists, and its publisher has not noted it",
    "within_deletion": "a version's manifest is gone, and its files are not",
}

# `pathcast beside archive`: tests/system/services/test_archive.py kills it at each.
OF_ARCHIVE: Final = {
    "before_landing": "records are due to land, and nothing of them is written",
    "within_landing": "the file of one day is written, and those of others are not",
    "before_landed": "the files of a landing are written, and no manifest names them",
    "after_landed": "the manifest names them, and neither we nor Kafka have noted it",
    "before_merged": "a merged file is written, and the manifest names those that it replaces",
    "after_merged": "the manifest names the merged file, and those that it replaces are there",
    "within_clearing": "one of several files that nothing names any more is deleted",
    "after_tombstone": "an entity is marked as forgotten, and its rows are there",
    "before_forgotten": "files without the entity are written, and the manifest names those with it",
    "after_forgotten": "the manifest names the files without the entity, and those with it are there",
}

# `pathcast train refresh --dir`: tests/system/versions/test_refresh.py kills it at each, in this order.
OF_REFRESH: Final = {
    "after_pings": "the pings of a round are written, and nothing is trained",
    "after_result": "the challenger is judged, and nobody was told",
    "after_challenger": "it is published, and not announced",
    "after_announcement": "it is announced, and the registry has no decision about it",
    "after_decision": "the registry has the decision, and the round has not ended",
    "after_round": "the round has ended, and old versions are there",
}

# `pathcast export redis` and `postgis`: tests/system/client/test_sinks.py kills it at each.
OF_SINKS: Final = {
    "before_write": "forecasts are read, and nothing of them is written",
    "within_write": "some of a batch is written, or all of it in a transaction that has not ended",
    "after_write": "a batch is written, and its offsets are not committed",
}

# `pathcast beside atlas`: tests/chaos/faults/faults_of_atlases.py kills it at each.
OF_ATLAS: Final = {
    "after_days": "Redis has what was counted of one partition, and we have not noted it",
    "after_version": "the file of a version is written, and nobody was told",
    "within_announcement": "a version is announced, and neither confirmed nor withdrawn",
}

_KNOWN: Final = {**NAMES, **OF_REGISTRY, **OF_ARCHIVE, **OF_REFRESH, **OF_SINKS, **OF_ATLAS}
_left: dict[str, int] = {}  # how often a point may still be reached


def arm(text: str) -> None:
    """Arms the point that `text`, NAME or NAME:N, names; none if it is empty.

    Raises ValueError for a name that is in no table, or an N below 1.
    """
    if not text:
        return
    name, _, times = text.partition(":")
    if name not in _KNOWN or not (times or "1").isdecimal() or int(times or "1") < 1:
        raise ValueError(f"{VARIABLE}={text!r}: expected NAME or NAME:N, where NAME is one of {', '.join(_KNOWN)}")
    _left[name] = int(times or "1")


def reach(name: str) -> None:
    """Notes that point `name` is reached, and kills the process if that was the N-th time."""
    if not _left:
        return
    assert name in _KNOWN
    if name in _left:
        _left[name] -= 1
        if not _left[name]:
            os.kill(os.getpid(), signal.SIGKILL)
