"""Stores machine code on disk from one start to the next, through numba's cache, for which numba guarantees no
interface.

numba itself stores a function together with a hash of the file that contains it. But constants and functions of other
files are compiled into it as well, so a new release could run the old one's numbers. Therefore the stored code names
the sources from which it was compiled. The code itself names them, not numba's index (whose stamp would be the obvious
place): numba writes the index first, and a start that ends in between would leave a new index with old code.

Plain `cache=True` runs the old code, and a full disk or a damaged file ends each start (tests/model/test_jit.py). A
folder for each digest of the sources (NUMBA_CACHE_DIR) would prevent the first only, and every edit would leave one
behind.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numba
from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.codegen import get_host_cpu_features

LOG = logging.getLogger(__name__)

COMPILES: Final = "numba:compile"  # numba's event, once for each function and each set of types
SHOWN_EVERY_S: Final = 5.0
LOOK_EVERY_S: Final = 0.2  # whether another process has finished

_folders: set[Path] = set()  # where machine code is kept
_packages: set[Path] = set()  # from whose sources it is compiled


def keep(made: Any, function: Callable[..., Any]) -> None:
    """Makes numba's dispatcher store the compiled code of `function`, where a folder is writable."""
    try:
        found = _TolerantCache(function)  # type: ignore[no-untyped-call]
    except RuntimeError:  # "no locator available": neither the package's folder nor a home is writable
        return
    # A numba without these attributes works in another way: then nothing is stored, rather than old code used.
    if isinstance(getattr(found, "_impl", None), _Code) and hasattr(made, "_cache"):
        made._cache = found
        _folders.add(Path(found.cache_path))
        _packages.add(_package(Path(function.__code__.co_filename)))


@contextmanager
def compiling(progress: Callable[[str], None]) -> Iterator[None]:
    """Tells how far compiling is, and lets one process compile for all that share a folder of machine code.

    Put everything that compiles into the block. Where all of it was compiled before, the block runs at once. Otherwise
    processes that come meanwhile wait, and then load what the first has compiled; `progress` gets a line now and then.
    """
    folder = min(_folders, default=None)
    if folder is None:  # nothing is kept: each process compiles for itself
        with _count_compiled(progress):
            yield
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / f"{_kind()}.compiled"
    if stamp.exists():
        yield
        return
    with _alone(folder / "compiling.lock", stamp, progress), _count_compiled(progress):
        yield
    with suppress(OSError):  # a full disk: the next process compiles what is missing
        stamp.touch()


def is_compiled() -> bool | None:
    """Returns whether all was compiled before that a worker needs, with the modules that are imported now: then a start
    loads it. None where no folder is writable. Writes nothing.
    """
    folder = min(_folders, default=None)
    return None if folder is None else (folder / f"{_kind()}.compiled").exists()


def cache_folders() -> list[Path]:
    """Returns the folders where machine code is kept; none where no folder is writable."""
    return sorted(_folders)


def _kind() -> str:
    """Returns a name of all that decides which machine code is needed: sources, numba, and the processor."""
    given = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    parts = [numba.__version__, *given, get_host_cpu_features()]  # type: ignore[no-untyped-call]
    digest = blake2b("|".join(map(str, parts)).encode(), digest_size=8)
    for package in sorted(_packages):
        digest.update(sources(package))
    return digest.hexdigest()


@contextmanager
def _alone(lock: Path, stamp: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Keeps a lock that ends with this process, or goes on without it when another process has written the stamp."""
    try:
        file = lock.open("w")
    except OSError:
        yield
        return
    with file:
        shown = False
        while not stamp.exists():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not shown:
                    progress("another process compiles kernels: waiting for it")
                shown = True
                time.sleep(LOOK_EVERY_S)
        yield


class _Counter(event.Listener):
    """Counts what has been compiled."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._compiled = 0
        self._began_s = self._shown_s = time.monotonic()

    def on_start(self, event: Any) -> None:
        """Does nothing."""

    def on_end(self, event: Any) -> None:
        self._compiled += 1
        now = time.monotonic()
        if now - self._shown_s >= SHOWN_EVERY_S:
            self._shown_s = now
            self._progress(f"compiling kernels: {self._compiled} so far, {now - self._began_s:.0f} s")


@contextmanager
def _count_compiled(progress: Callable[[str], None]) -> Iterator[None]:
    counter = _Counter(progress)
    event.register(COMPILES, counter)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        event.unregister(COMPILES, counter)  # type: ignore[no-untyped-call]


@cache
def sources(folder: Path) -> bytes:
    """Returns a digest of all Python files in the folder and its subfolders."""
    return blake2b(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py"))), digest_size=16).digest()


def _package(file: Path) -> Path:
    """Returns the folder of the topmost package that contains the file."""
    folder = file.parent
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
    return folder


class _Code(CompileResultCacheImpl):
    """Compiled code with a digest of the sources that it can contain: those of this package, and those of the
    function's.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._of = sources(Path(__file__).parent), sources(_package(Path(function.__code__.co_filename)))

    def reduce(self, data: Any) -> Any:
        return self._of, super().reduce(data)  # type: ignore[no-untyped-call]

    def rebuild(self, target_context: Any, reduced_data: Any) -> Any:
        """Returns None if the code was compiled from other sources, as if nothing were stored."""
        of, *code = reduced_data
        if of != self._of:
            return None
        return super().rebuild(target_context, *code)  # type: ignore[no-untyped-call]


class _TolerantCache(FunctionCache):
    """A cache in which a full disk or a damaged file costs compile time, but never stops a start."""

    _impl_class = _Code

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # from foreign bytes pickle may raise any exception
            _tell(self.cache_path, getattr(error, "strerror", None) or str(error))
            with suppress(OSError):
                # Otherwise nothing could be added to a damaged index.
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _tell(self.cache_path, error.strerror)


@cache
def _tell(folder: str, why: str) -> None:
    """Logs once per folder, because there are some sixty kernels."""
    LOG.warning("what is compiled is not kept in %s, or is damaged there, so this start takes longer: %s", folder, why)
