"""Machine code on disk, from one start to the next. Knows numba's cache, of which numba promises nothing; knows no
kernel.

numba itself keeps a function with the contents of the file that it stands in. But constants and functions of other
files are compiled into it as well, so a new release could run the old one's numbers: what is kept here says of which
sources it was made. It says so itself, and not numba's index of it (whose stamp would be the place to think of): numba
writes that first, and a start that ends in between would leave a new index to old code.
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
    """Have numba's dispatcher keep what it compiles of `function`, where there is a place to write."""
    try:
        found = _Kept(function)  # type: ignore[no-untyped-call]
    except RuntimeError:  # "no locator available": neither the package's folder nor a home can be written
        return
    # A numba that has no such attributes goes about it in another way: nothing is kept, rather than old code.
    if isinstance(getattr(found, "_impl", None), _Code) and hasattr(made, "_cache"):
        made._cache = found


@cache
def sources(folder: Path) -> bytes:
    """A digest of all that is Python in it and in its folders."""
    return blake2b(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py"))), digest_size=16).digest()


def _package(file: Path) -> Path:
    """The folder of the topmost package that the file is in."""
    folder = file.parent
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
    return folder


class _Code(CompileResultCacheImpl):
    """Of what a function can have taken in, that is: of this package, and of its own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._of = sources(Path(__file__).parent), sources(_package(Path(function.__code__.co_filename)))

    def reduce(self, data: Any) -> Any:
        return self._of, super().reduce(data)  # type: ignore[no-untyped-call]

    def rebuild(self, target_context: Any, reduced_data: Any) -> Any:
        """None if it is of other sources, as if there were nothing."""
        of, *code = reduced_data
        if of != self._of:
            return None
        return super().rebuild(target_context, *code)  # type: ignore[no-untyped-call]


class _Kept(FunctionCache):
    """A disk that is full or a file that is damaged costs the time of compiling, and no start."""

    _impl_class = _Code

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # of what it did not write itself, pickle says whatever it stumbles over
            _tell(self.cache_path, getattr(error, "strerror", None) or str(error))
            with suppress(OSError):
                # Else an index that is damaged could not be added to.
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _tell(self.cache_path, error.strerror)


@cache
def _tell(folder: str, why: str) -> None:
    """Once, as there are some sixty kernels."""
    LOG.warning("what is compiled is not kept in %s, or is damaged there, so this start takes longer: %s", folder, why)
