"""How functions of arrays are compiled, in this package and in `stream`. Knows numba; knows no kernel.

It imports no torch, so that a program which reads records and forecasts nothing does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import numba

from model.machine_code import keep

# Sums in any order, products fused into them. Not `fastmath=True`: what is not finite must stay so, to be seen.
MATHS: Final = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Callable[..., Any], *, maths: Collection[str] = MATHS) -> Any:
    """numba.njit without the GIL, kept on disk where there is a place to write; else compiled anew in each process.
    Without `maths`, floats are rounded as IEEE 754 has it: a quotient is then no product with a reciprocal.

    Each is compiled into its callers, so that a process that compiles them rounds as those do that load them. As calls,
    every caller on disk would have a copy, optimised with it, and a process would run the copy that it met first; and
    with arrays, a call hands over some twenty words.

    What is kept is compiled anew when any file of this package changes, or of the folder that the function is of.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": set(maths), "error_model": "numpy", "forceinline": True}
    made = numba.njit(function, **options)
    keep(made, function)
    return made
