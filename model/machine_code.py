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

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache

LOG = logging.getLogger(__name__)


def keep(made: Any, function: Callable[..., Any]) -> None:
    """Makes numba's dispatcher store the compiled code of `function`, where a folder is writable."""
    try:
        found = _Kept(function)  # type: ignore[no-untyped-call]
    except RuntimeError:  # "no locator available": neither the package's folder nor a home is writable
        return
    # A numba without these attributes works in another way: then nothing is stored, rather than old code used.
    if isinstance(getattr(found, "_impl", None), _Code) and hasattr(made, "_cache"):
        made._cache = found


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


class _Kept(FunctionCache):
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
