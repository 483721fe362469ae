"""Random numbers and elementary functions for compiled kernels: counter-based, and the same bits on every machine.

No fast-math, no fused multiply-add, no mathematical library: only IEEE operations in a fixed order, so that LLVM may
run the lanes of a loop in SIMD registers and the result does not depend on it. The polynomials are Chebyshev fits made
for this file.
"""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

f4 = np.float32
u4 = np.uint32
u8 = np.uint64
_intrinsic: Any = intrinsic  # numba's stub does not know that the decorator drops the typing context
jit = njit(cache=True, nogil=True, error_model="numpy")
inline = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)  # a call would keep its loop scalar


@_intrinsic
def _bits(_context: Any, x: Any) -> Any:
    """The bits of a float32."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


@_intrinsic
def _from_bits(_context: Any, x: Any) -> Any:
    """The float32 that has these bits."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), generate


@_intrinsic
def prefetch(_context: Any, row: Any, index: Any) -> Any:
    """Have the cache line of row[index] brought to the second cache; row is a contiguous array of one dimension."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        line = builder.bitcast(builder.gep(data, [args[1]]), ir.PointerType(ir.IntType(8)))
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, i32, i32, i32])
        function = builder.module.declare_intrinsic("llvm.prefetch", (line.type,), kind)
        builder.call(function, [line, i32(0), i32(2), i32(1)])  # to read, of middling locality, data
        return context.get_dummy_value()

    return types.none(row, types.intp), generate


@inline
def fetch(row: Any, line: Any) -> None:
    """Prefetch a whole row, of which a cache line holds `line` elements."""
    for i in range(0, row.size, line):
        prefetch(row, i)


@inline
def philox(a: Any, b: Any, c: Any, d: Any, k0: Any, k1: Any) -> Any:
    """Four uint32 from a counter of four and a key of two: Philox4x32-7 (Salmon et al., SC11)."""
    for _ in range(7):
        p = u8(a) * u8(0xD2511F53)
        q = u8(c) * u8(0xCD9E8D57)
        a, b, c, d = u4(u4(q >> u8(32)) ^ b ^ k0), u4(q), u4(u4(p >> u8(32)) ^ d ^ k1), u4(p)
        k0 = u4(k0 + u4(0x9E3779B9))
        k1 = u4(k1 + u4(0xBB67AE85))
    return a, b, c, d


@inline
def ln(x: Any) -> Any:
    """Natural logarithm of a normal positive float32, relative error < 3e-7."""
    bits = _bits(x)
    e = np.int32(u4(bits - u4(0x3F3504F3))) >> np.int32(23)
    t = _from_bits(u4(bits - u4(u4(e) << u4(23)))) - f4(1.0)
    s = f4(-0.10134056955575943)
    s = s * t + f4(0.1623418927192688)
    s = s * t + f4(-0.17247013747692108)
    s = s * t + f4(0.19898565113544464)
    s = s * t + f4(-0.24970071017742157)
    s = s * t + f4(0.33335113525390625)
    s = s * t + f4(-0.5000036358833313)
    s = s * t + f4(0.9999999403953552)
    return s * t + f4(e) * f4(0.6931471805599453)


@inline
def exp2(x: Any) -> Any:
    """2**x for |x| < 126, relative error < 2e-7 + 6e-8 |x|."""
    k = np.floor(x + f4(0.5))
    t = x - k
    s = f4(0.00015469732170458883)
    s = s * t + f4(0.0013400432653725147)
    s = s * t + f4(0.00961802527308464)
    s = s * t + f4(0.05550327152013779)
    s = s * t + f4(0.24022650718688965)
    s = s * t + f4(0.6931471824645996)
    s = s * t + f4(1.0)
    return s * _from_bits(u4(u4(np.int32(k) + np.int32(127)) << u4(23)))


@inline
def two_normals(w1: Any, w2: Any) -> Any:
    """Two independent standard normals (float32) from 64 random bits, by Box and Muller; |z| < 5.9."""
    u = f4(np.int32(w1 >> u4(8))) * f4(5.9604644775390625e-08) + f4(2.98023223876953125e-08)
    radius = np.sqrt(f4(-2.0) * ln(u))
    s = f4(np.int32(w2)) * f4(4.656612873077393e-10)  # angle / pi
    z = s * s
    sine = f4(0.005895343609154224)
    sine = sine * z + f4(-0.07434302568435669)
    sine = sine * z + f4(0.5237346291542053)
    sine = sine * z + f4(-2.0260818004608154)
    sine = s * (f4(1.0) - z) * (sine * z + f4(3.141591787338257))
    cosine = f4(-0.02057725191116333)
    cosine = cosine * z + f4(0.2296503633260727)
    cosine = cosine * z + f4(-1.332369089126587)
    cosine = cosine * z + f4(4.058041095733643)
    cosine = cosine * z + f4(-4.9347453117370605)
    cosine = cosine * z + f4(0.9999992251396179)
    return radius * cosine, radius * sine


@inline
def four_normals(cell: Any, index: Any, purpose: Any, k0: Any, k1: Any) -> Any:
    """Four standard normals that belong to (cell, index, purpose)."""
    a, b, c, d = philox(u4(cell), u4(index), u4(purpose), u4(0), k0, k1)
    z0, z1 = two_normals(a, b)
    z2, z3 = two_normals(c, d)
    return z0, z1, z2, z3


@inline
def choose(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b; both are evaluated, so that a loop over lanes needs no branch."""
    return a if condition else b


@inline
def horner(c: Any, x: Any) -> Any:
    """Polynomial of degree 7, eight coefficients, highest power first."""
    return ((((((c[0] * x + c[1]) * x + c[2]) * x + c[3]) * x + c[4]) * x + c[5]) * x + c[6]) * x + c[7]


@inline
def power(x: Any, exponent: Any) -> Any:
    """x**exponent for x > 0, as 2**(exponent / ln 2 * ln x)."""
    return exp2(exponent * f4(1.4426950408889634) * ln(x))


@inline
def sixteen(m: Any) -> Any:
    """The elements of a (4, 4) array as scalars, which a loop can keep in registers."""
    a, b, c, d = m[0], m[1], m[2], m[3]
    return a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]
