"""The directory of one `pathcast up`, its lock, and a file that tells other commands where its servers are.

Two of them in one directory would give two servers the same files. The file has what its parts have in their
environment, without passwords: commands in other terminals take from it what nobody tells them.

    {"variables": {"PATHCAST_BOOTSTRAP": "127.0.0.1:9092", ...}, "embedded": ["PATHCAST_BOOTSTRAP", ...]}
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from model.files import writing_whole

VARIABLE: Final = "PATHCAST_DIR"
USUAL: Final = Path("pathcast-data")  # in the working directory
BOOTSTRAP: Final = "PATHCAST_BOOTSTRAP"
REDIS: Final = "PATHCAST_REDIS"
_OF_KAFKA: Final = ("SECURITY", "MECHANISM", "USER", "CA", "CERT", "KEY")
_NOTED: Final = (
    *(BOOTSTRAP, REDIS, "PATHCAST_REDIS_CA", "PATHCAST_PREFIX", "PATHCAST_GROUP", "PATHCAST_MAP"),
    *(f"PATHCAST_KAFKA_{name}" for name in _OF_KAFKA),
)


class Home(NamedTuple):
    """The folder in which everything is kept."""

    root: Path

    @property
    def atlases(self) -> Path:
        return self.root / "atlases"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    def archive_of(self, topic: str) -> Path:
        return self.archive / topic

    @property
    def refresh(self) -> Path:
        return self.root / "refresh"

    @property
    def transit(self) -> Path:
        return self.root / "transit"

    @property
    def servers_file(self) -> Path:
        """Returns the file that tells where the servers are."""
        return self.root / "servers.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def server(self, name: str) -> Path:
        """Returns the directory of an embedded server."""
        return self.root / name

    def make(self, topic: str) -> None:
        """Makes all folders, also that of the archive of the pings topic, which may be read before anything landed."""
        # Pings tell where people are: nobody else on this machine may read them.
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.atlases, self.registry, self.archive, self.archive_of(topic), self.logs):
            folder.mkdir(exist_ok=True)


@contextmanager
def lock_home(home: Home) -> Iterator[int]:
    """Holds the directory's lock, and yields its file descriptor.

    Whoever inherits the descriptor holds the lock, too. Children do, so that after a kill -9 of the parent the next
    `pathcast up` cannot start beside those that are still ending.

    Raises:
        RuntimeError: another process, or a child that it left, holds it.
    """
    path = home.root / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise RuntimeError(_explain_refusal(home.root, path.read_text().strip())) from None
        home.servers_file.unlink(missing_ok=True)  # those of the last time
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield descriptor
    finally:
        os.close(descriptor)  # it does not unlock what a child still holds


def _lock(descriptor: int) -> None:
    """Locks it. Raises BlockingIOError if somebody else has the lock, and not only looks whether it is held."""
    with suppress(BlockingIOError):
        return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    time.sleep(0.1)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _explain_refusal(root: Path, pid: str) -> str:
    if pid.isdigit() and _lives(int(pid)):
        return f"another pathcast up, process {pid}, works in {root}: stop it, or give another --dir"
    return f"processes of an earlier pathcast up are still ending in {root}: try again in half a minute"


def _lives(pid: int) -> bool:
    with suppress(PermissionError):  # it lives, and is another user's
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


class _Servers(msgspec.Struct):
    variables: dict[str, str]
    embedded: list[str]


def note_servers(home: Home, environment: Mapping[str, str], embedded: Collection[str]) -> None:
    """Writes where the servers of these parts are. `embedded` has the variables of those that end with us."""
    found = {name: _elsewhere(name, environment[name]) for name in _NOTED if environment.get(name)}
    with writing_whole(home.servers_file) as part:
        part.touch(mode=0o600)
        part.write_bytes(msgspec.json.encode(_Servers(found, sorted(embedded))))


def _elsewhere(name: str, value: str) -> str:
    """Returns the value for a command that is started in another directory, without a password."""
    if name == REDIS and (parts := urlsplit(value)).password:
        user_and_host = f"{parts.username or ''}@{parts.netloc.rpartition('@')[2]}"
        return parts._replace(netloc=user_and_host).geturl()
    is_path = name.endswith(("_CA", "_CERT", "_KEY", "_MAP")) and Path(value).exists()
    return str(Path(value).absolute()) if is_path else value


class Fleet(NamedTuple):
    """Holds what a directory says of the fleet of its `pathcast up`."""

    home: Home
    variables: Mapping[str, str]  # of a command that is to work with it
    ended: Collection[str]  # the variables of servers that have ended with it


def find_fleet(environment: Mapping[str, str]) -> Fleet | None:
    """Returns what the directory that PATHCAST_DIR names, or the usual one, says; None if no `pathcast up` of this user
    was there. Raises ValueError if the file is damaged."""
    try:
        home = Home(Path(environment.get(VARIABLE) or USUAL).absolute())
        with home.servers_file.open("rb") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():  # else whoever may write here could have our pings
                return None
            found = msgspec.json.decode(file.read(), type=_Servers)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except msgspec.MsgspecError as error:
        raise ValueError(f"{home.servers_file} is damaged ({error}): start pathcast up again, or remove it") from None
    folders = {"PATHCAST_REGISTRY": home.registry, "PATHCAST_ATLASES": home.atlases}
    if any(home.archive.glob("*/archive.json")):  # else no archive runs
        folders["PATHCAST_ARCHIVE"] = home.archive
    kept = {name: str(folder) for name, folder in folders.items() if folder.is_dir()}
    return Fleet(home, {**found.variables, **kept}, () if _is_held(home) else found.embedded)


def _is_held(home: Home) -> bool:
    """Returns whether a `pathcast up`, or a process that it left, holds the lock."""
    try:
        descriptor = os.open(home.root / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
