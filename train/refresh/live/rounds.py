"""Keeps a folder for each round, from which a killed one goes on. One process at a time works in a directory.

    <dir>/.lock
    <dir>/20261130T071500.000Z/          named by when it began
        round.json                       what serves, and since when the round goes on; written first
        champion/                        what serves
        <topic>.parquet                  the pings
        cache/ .result.unfinished/       what the refresh needs meanwhile
        result/                          what `train.refresh.run` leaves: decision.json, and weights or refused/
        ended.json                       the outcome; written last

A round without ended.json is gone on with. What is large is deleted when a round ends; KEPT rounds stay.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from model.files import write_whole
from train.refresh.decision import DECISION_FILE

KEPT: Final = 5
STARTED, ENDED, LOCK = "round.json", "ended.json", ".lock"
_NAME: Final = "%Y%m%dT%H%M%S"


class RoundStart(msgspec.Struct, frozen=True):
    """The begin of a round."""

    champion: str  # the version that serves
    started_ms: int  # Unix time


class RoundEnd(msgspec.Struct, frozen=True):
    """The outcome of a round."""

    outcome: str  # canary, promote, refuse, failed, or outrun: another version serves meanwhile
    reason: str
    version: str | None = None  # of the challenger; None: there is none that could be read

    @property
    def line(self) -> str:
        return f"{self.outcome}{'' if self.version is None else f' {self.version}'}: {self.reason}"


@dataclass(frozen=True)
class Round:
    """One round's folder."""

    folder: Path
    started: RoundStart
    topic: str

    @property
    def champion(self) -> Path:
        return self.folder / "champion"

    @property
    def pings(self) -> Path:
        return self.folder / f"{self.topic}.parquet"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def result(self) -> Path:
        return self.folder / "result"

    def decision(self) -> dict[str, Any] | None:
        """Returns the contents of decision.json, once there is a result."""
        try:
            found: dict[str, Any] = json.loads((self.result / DECISION_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    @property
    def challenger(self) -> str | None:
        """The version that the round has made, once there is a result."""
        found = self.decision()
        version = None if found is None else found["challenger"]["version"]
        return None if version is None else str(version)

    def end(self, ended: RoundEnd) -> None:
        """Writes the outcome, and deletes what nobody needs any more."""
        write_whole(self.folder / ENDED, [msgspec.json.encode(ended) + b"\n"])
        _shrink(self.folder)


def begin_round(directory: Path, topic: str, champion: str, now_ms: int) -> Round:
    """Makes the folder of a new round."""
    started = RoundStart(champion, now_ms)
    while (folder := directory / _name(now_ms)).exists():
        now_ms += 1
    folder.mkdir(parents=True)
    write_whole(folder / STARTED, [msgspec.json.encode(started) + b"\n"])
    return Round(folder, started, topic)


def find_unfinished(directory: Path, topic: str) -> Round | None:
    """Returns the newest round if it has not ended."""
    for folder in reversed(_folders(directory)):
        if (folder / ENDED).exists():
            return None
        if (folder / STARTED).exists():
            return Round(folder, _read_start(folder), topic)
    return None


def last_started_ms(directory: Path) -> int | None:
    """Returns when the newest round began; None if there was none."""
    began = [_read_start(folder).started_ms for folder in _folders(directory) if (folder / STARTED).exists()]
    return began[-1] if began else None


def delete_old(directory: Path) -> None:
    """Deletes old rounds, and what killed ones left that nobody goes on with."""
    whole = []
    for folder in _folders(directory):
        if (folder / ENDED).exists():
            whole.append(folder)
            _shrink(folder)
        elif folder != _folders(directory)[-1]:
            shutil.rmtree(folder)
    for folder in whole[: max(0, len(whole) - KEPT)]:
        shutil.rmtree(folder)


@contextmanager
def lock_directory(directory: Path) -> Iterator[int]:
    """Holds the directory, until this process ends however it ends, and whoever else has got the open file that is
    yielded. Raises ValueError if another one has it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{directory}: another refresh works there: name another --dir") from error
        yield file.fileno()


def _name(now_ms: int) -> str:
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC).strftime(_NAME)}.{now_ms % 1000:03d}Z"


def _folders(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_dir() and _is_name(path.name))


def _is_name(name: str) -> bool:
    try:
        datetime.strptime(name, f"{_NAME}.%fZ")
    except ValueError:
        return False
    return True


def _read_start(folder: Path) -> RoundStart:
    try:
        return msgspec.json.decode((folder / STARTED).read_bytes(), type=RoundStart)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{folder / STARTED} is damaged ({error}): delete the folder") from error


def _shrink(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and path.name != "result":
            shutil.rmtree(path)
        elif path.name.endswith((".parquet", ".writing")):
            path.unlink()
