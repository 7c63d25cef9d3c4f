"""Machine code on disk, from one start to the next. Knows numba's cache, of which numba promises nothing; knows no
kernel.

numba itself keeps a function with the contents of the file that it stands in. But constants and functions of other
files are compiled into it as well, so a new release could run the old one's numbers: what is kept here says of which
sources it was made. It says so itself, and not numba's index of it (whose stamp would be the place to think of): numba
writes that first, and a start that ends in between would leave a new index to old code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache


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
    """A digest of all that is Python in it."""
    return blake2b(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"))), digest_size=16).digest()


class _Code(CompileResultCacheImpl):
    """Of what a function can have taken in, that is: of this package, and of its own folder."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._of = sources(Path(__file__).parent), sources(Path(function.__code__.co_filename).parent)

    def reduce(self, data: Any) -> Any:
        return self._of, super().reduce(data)  # type: ignore[no-untyped-call]

    def rebuild(self, target_context: Any, reduced_data: Any) -> Any:
        """None if it is of other sources, as if there were nothing."""
        of, *code = reduced_data
        if of != self._of:
            return None
        return super().rebuild(target_context, *code)  # type: ignore[no-untyped-call]


class _Kept(FunctionCache):
    _impl_class = _Code
