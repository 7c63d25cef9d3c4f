"""Small matrix products (tiles) with all their sums in registers. They are called with addresses.

numba makes vectors of plain loops, but its loops store each sum and load it again, and no loop compiles to VDPBF16PS:
sixteen float32 sums, each plus two products of bfloat16. So this module generates LLVM code for it. A tile of 6 rows
times 64 outputs keeps 24 of the 32 registers of 512 bits busy, 4 more hold weights, and each pair of inputs costs 24
instructions that only multiply. Where there are 16 registers of 256 bits, two of them act as one of 512, and a tile is
smaller.

Measured on one core of an EPYC 9004 at 3.6 GHz, 258 rows: 230 GFLOP/s of 230 possible; oneDNN's packed weights 155-205.
In float32 on one of an EPYC 7003 (256 bits), 96 rows, 128 inputs: 4 rows times 16 outputs 90 GFLOP/s, 5 times 16 93, 6
times 16 70, 4 times 32 50, 6 times 64 20; torch 82.
"""

from __future__ import annotations

import os
from typing import Any, Final

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# numba compiles for another CPU
_OTHER_CPU: Final = any(os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
_CPU: Final = {} if _OTHER_CPU else llvmlite.binding.get_host_cpu_features()
_LARGE: Final = bool(_CPU.get("avx512f"))  # 32 registers of 512 bits

LANES: Final = 16  # float32 numbers in a register of 512 bits
WIDE: Final = (6, 4)  # rows, and registers of outputs per row
# for layers of at most 16 outputs: many sums at once, because a sum would wait for its last addition
NARROW: Final = (12, 1)
SINGLE: Final = (12, 1) if _LARGE else (4, 1)  # for float32
SCORES: Final = (4, 4) if _LARGE else (4, 1)  # four heads, 64 or 16 places
ANSWERS: Final = (4, 2) if _LARGE else (4, 1)  # four heads, 32 or 16 numbers of a value
_BYTES: Final = 64  # of a register
_I32: Final = ir.IntType(32)
_I64: Final = ir.IntType(64)
_SUMS: Final = ir.VectorType(ir.FloatType(), LANES)
_PAIRS: Final = ir.VectorType(_I32, LANES)


class _BFloat(ir.Type):  # type: ignore[misc]  # llvmlite has no types
    """LLVM's bfloat type, which llvmlite does not define."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_HALVES: Final = ir.VectorType(_BFloat(), 2 * LANES)


def multiplies_halves() -> bool:
    """Returns whether numba's code for this CPU may multiply bfloat16."""
    return bool(_CPU.get("avx512bf16"))


def fuses() -> bool:
    """Returns whether it may add products of float32 in one instruction; without that, each would be a function
    call.
    """
    return bool(_CPU.get("fma") and _CPU.get("avx2"))


def instructions() -> str:
    """Returns the widest vector instructions that numba's code may use: "AVX-512", "AVX2" or "none"."""
    if not fuses():
        return "none"
    return "AVX-512" if _LARGE else "AVX2"


def _tile(rows: int, registers: int, halves: bool) -> Any:
    """Builds a product sums [rows, L] = x [rows, K] · weights [K, L], L = registers · LANES: of float32, or of bfloat16
    in pairs of inputs, whose weights are [K/2, L, 2].

    Its arguments are addresses and the bytes from one row to the next: of x, of the weights, K or K/2 (at least 1), of
    the sums. It reads all L columns of a row of weights, so the memory after the last weights must be readable.
    """

    @intrinsic
    def multiply(typing_context, x, x_row, weights, weights_row, steps, sums, sums_row):  # type: ignore[no-untyped-def]
        return types.void(*[types.intp] * 7), lambda context, b, _, args: _emit(context, b, *args)

    def _emit(
        context: Any, b: Any, x: Any, x_row: Any, weights: Any, weights_row: Any, steps: Any, sums: Any, sums_row: Any
    ) -> Any:
        before, loop, after = b.block, b.append_basic_block("step"), b.append_basic_block("done")
        b.branch(loop)
        b.position_at_end(loop)
        step = b.phi(_I64)
        total = [[b.phi(_SUMS) for _ in range(registers)] for _ in range(rows)]
        at = b.add(weights, b.mul(step, weights_row))
        weight = [_load(b, at, _PAIRS, r * _BYTES) for r in range(registers)]
        at = b.add(x, b.mul(step, _I64(4)))
        for row in total:
            alike = b.insert_element(ir.Constant(_PAIRS, ir.Undefined), _load(b, at, _I32, 0), _I32(0))
            both = b.shuffle_vector(alike, ir.Constant(_PAIRS, ir.Undefined), ir.Constant(_PAIRS, [0] * LANES))
            for r, so_far in enumerate(row):
                so_far.add_incoming(ir.Constant(_SUMS, [0.0] * LANES), before)
                row[r] = _added(b, so_far, both, weight[r], halves)
                so_far.add_incoming(row[r], loop)
            at = b.add(at, x_row)
        step.add_incoming(_I64(0), before)
        further = b.add(step, _I64(1))
        step.add_incoming(further, loop)
        b.cbranch(b.icmp_signed("<", further, steps), loop, after)
        b.position_at_end(after)
        for row in total:
            for r, value in enumerate(row):
                b.store(value, b.inttoptr(b.add(sums, _I64(r * _BYTES)), _SUMS.as_pointer()), align=4)
            sums = b.add(sums, sums_row)
        return context.get_dummy_value()

    return multiply


def _added(b: Any, so_far: Any, x: Any, weight: Any, halves: bool) -> Any:
    """Returns the sums plus one product in each lane, or plus two products of bfloat16."""
    if not halves:
        return _fused(b, so_far, b.bitcast(x, _SUMS), b.bitcast(weight, _SUMS))
    if multiplies_halves():
        kind = ir.FunctionType(_SUMS, [_SUMS, _HALVES, _HALVES])
        dot = b.module.declare_intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", (), kind)
        return b.call(dot, [so_far, b.bitcast(x, _HALVES), b.bitcast(weight, _HALVES)])
    # Serving never uses this path (`layers.choose_layers`); it lets the tests check the bfloat16 layers on every
    # CPU.
    first, second = ([_either(b, pair, upper) for pair in (x, weight)] for upper in (False, True))
    return _fused(b, _fused(b, so_far, *first), *second)


def _fused(b: Any, so_far: Any, x: Any, weight: Any) -> Any:
    fma = b.module.declare_intrinsic("llvm.fma.v16f32", (), ir.FunctionType(_SUMS, [_SUMS] * 3))
    return b.call(fma, [x, weight, so_far])


def _either(b: Any, pairs: Any, upper: bool) -> Any:
    """Returns the upper or the lower of each lane's two bfloat16 numbers, in float32."""
    bits = 0xFFFF0000 if upper else 16
    of_lane = ir.Constant(_PAIRS, [bits] * LANES)
    return b.bitcast(b.and_(pairs, of_lane) if upper else b.shl(pairs, of_lane), _SUMS)


def _load(b: Any, at: Any, kind: Any, offset: int) -> Any:
    """Loads as if the address were not aligned: where it is aligned, this costs nothing."""
    return b.load(b.inttoptr(b.add(at, _I64(offset)), kind.as_pointer()), align=4)


wide, narrow, single = _tile(*WIDE, halves=True), _tile(*NARROW, halves=True), _tile(*SINGLE, halves=False)
scores, answers = _tile(*SCORES, halves=False), _tile(*ANSWERS, halves=False)


@intrinsic
def fetch(typing_context, start, size):  # type: ignore[no-untyped-def]
    """Asks the CPU to load so many bytes at an address into the nearest cache; does not wait for them."""

    def emit(context: Any, b: Any, _: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        ask = b.module.declare_intrinsic("llvm.prefetch.p0", (), ir.FunctionType(ir.VoidType(), [pointer, *[_I32] * 3]))
        with cgutils.for_range_slice(b, args[0], b.add(*args), _I64(_BYTES), inc=True) as (at, _count):
            b.call(ask, [b.inttoptr(at, pointer), _I32(0), _I32(3), _I32(1)])  # to read, to the nearest cache, data
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit
