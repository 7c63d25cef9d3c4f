"""Compiles functions of arrays with numba, for this package and for `stream`.

It imports no torch, so that a program that reads records and forecasts nothing does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import llvmlite.binding
import numba

from model.machine_code import cache_folders, compiling, is_compiled, keep

__all__ = ["MATHS", "cache_folders", "compiled", "compiling", "is_compiled"]

# Allows sums in any order and fused products. It is not `fastmath=True`: numbers that are not finite must stay so, to
# be noticed.
MATHS: Final = {"reassoc", "contract", "nsz", "arcp"}

# LLVM makes two versions of a loop, of which one is chosen by whether arrays may overlap. By default it asks that once
# for all rounds of an outer loop, and more widely than they reach: then neighbours in memory count as overlapping, and
# a row's last bit depended on where its batch lay.
llvmlite.binding.set_option("pathcast", "-hoist-runtime-checks=false")


def compiled(function: Callable[..., Any], *, maths: Collection[str] = MATHS) -> Any:
    """numba.njit without the GIL. The machine code is stored on disk where a folder is writable; elsewhere each process
    compiles anew. Without `maths`, floats are rounded according to IEEE 754: a quotient then never becomes a product
    with a reciprocal.

    Each function is inlined into its callers, so that a process that compiles them rounds as those that load them do.
    If they were calls, every caller on disk would contain a copy, optimised together with it, and a process would use
    the copy that it loaded first; and with arrays, a call passes some twenty words.

    Stored code is compiled again when any file of this package changes, or of the package of the function.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": set(maths), "error_model": "numpy", "forceinline": True}
    made = numba.njit(function, **options)
    keep(made, function)
    return made
