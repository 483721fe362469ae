"""Random numbers and elementary functions on vectors: counter-based, and the same bits on every machine.

No fast-math, no fused multiply-add, no mathematical library: only IEEE operations in a fixed order, lane by lane (see
`simd`). The polynomials are Chebyshev fits made for this file.
"""

from typing import Any

import numpy as np

from labctl.models.simd import bits, exponent, floor, from_bits, inline, product, sqrt, to_floats, to_words

f4 = np.float32
u4 = np.uint32


@inline
def _round(a: Any, b: Any, c: Any, d: Any, k0: Any, k1: Any) -> Any:
    p_high, p_low = product(a, u4(0xD2511F53))
    q_high, q_low = product(c, u4(0xCD9E8D57))
    return (q_high ^ k0) ^ b, q_low, (p_high ^ k1) ^ d, p_low, u4(k0 + u4(0x9E3779B9)), u4(k1 + u4(0xBB67AE85))


@inline
def philox(a: Any, b: Any, c: Any, d: Any, k0: Any, k1: Any) -> Any:
    """Four words from a counter of four and a key of two scalars: Philox4x32-7 (Salmon et al., SC11)."""
    a, b, c, d, k0, k1 = _round(a, b, c, d, k0, k1)  # a loop would not be unrolled
    a, b, c, d, k0, k1 = _round(a, b, c, d, k0, k1)
    a, b, c, d, k0, k1 = _round(a, b, c, d, k0, k1)
    a, b, c, d, k0, k1 = _round(a, b, c, d, k0, k1)
    a, b, c, d, k0, k1 = _round(a, b, c, d, k0, k1)
    a, b, c, d, k0, k1 = _round(a, b, c, d, k0, k1)
    a, b, c, d, k0, k1 = _round(a, b, c, d, k0, k1)
    return a, b, c, d


@inline
def _split(x: Any) -> Any:
    """e and t of x = 2**e (1 + t), with 1 + t between sqrt(1/2) and sqrt(2); x normal and positive."""
    e = exponent(bits(x) - u4(0x3F3504F3))
    return to_floats(e), from_bits(bits(x) - (e << u4(23))) - f4(1.0)


@inline
def ln(x: Any) -> Any:
    """Natural logarithm of normal positive floats, relative error < 3e-7."""
    e, t = _split(x)
    t2 = t * t  # of degree 7, in pairs: a chain of additions one after the other is twice as slow
    low = (f4(0.33335113525390625) * t + f4(-0.5000036358833313)) * t + f4(0.9999999403953552)
    high = (f4(0.1623418927192688) * t + f4(-0.17247013747692108)) + f4(-0.10134056955575943) * t2
    high = (f4(0.19898565113544464) * t + f4(-0.24970071017742157)) + high * t2
    return (low + high * (t2 * t)) * t + e * f4(0.6931471805599453)


@inline
def exp2(x: Any) -> Any:
    """2**x for |x| < 126, relative error < 2e-7 + 6e-8 |x|."""
    k = floor(x + f4(0.5))
    t = x - k
    s = f4(0.00015469732170458883) * t + f4(0.0013400432653725147)
    s = s * t + f4(0.00961802527308464)
    s = s * t + f4(0.05550327152013779)
    s = s * t + f4(0.24022650718688965)
    s = s * t + f4(0.6931471824645996)
    s = s * t + f4(1.0)
    return s * from_bits((to_words(k) + u4(127)) << u4(23))


@inline
def two_normals(w1: Any, w2: Any) -> Any:
    """Two independent standard normals from two words, by Box and Muller; |z| < 5.9."""
    u = to_floats(w1 >> u4(8)) * f4(5.9604644775390625e-08) + f4(2.98023223876953125e-08)
    radius = sqrt(f4(-2.0) * ln(u))
    s = to_floats(w2) * f4(4.656612873077393e-10)  # angle / pi
    z = s * s
    sine = f4(0.005895343609154224) * z + f4(-0.07434302568435669)
    sine = sine * z + f4(0.5237346291542053)
    sine = sine * z + f4(-2.0260818004608154)
    sine = s * (f4(1.0) - z) * (sine * z + f4(3.141591787338257))
    cosine = f4(-0.02057725191116333) * z + f4(0.2296503633260727)
    cosine = cosine * z + f4(-1.332369089126587)
    cosine = cosine * z + f4(4.058041095733643)
    cosine = cosine * z + f4(-4.9347453117370605)
    cosine = cosine * z + f4(0.9999992251396179)
    return radius * cosine, radius * sine


@inline
def four_normals(cell: Any, index: Any, purpose: Any, k0: Any, k1: Any) -> Any:
    """Four vectors of standard normals that belong to (cell, index, purpose); cell: words."""
    a, b, c, d = philox(cell, (cell ^ cell) + index, (cell ^ cell) + purpose, cell ^ cell, k0, k1)
    z0, z1 = two_normals(a, b)
    z2, z3 = two_normals(c, d)
    return z0, z1, z2, z3


@inline
def horner(c: Any, x: Any) -> Any:
    """Polynomial of degree 7, eight scalar coefficients, highest power first."""
    return ((((((c[0] * x + c[1]) * x + c[2]) * x + c[3]) * x + c[4]) * x + c[5]) * x + c[6]) * x + c[7]


@inline
def power(x: Any, to: Any) -> Any:
    """x**to for x > 0, as 2**(to / ln 2 * ln x)."""
    return exp2(to * f4(1.4426950408889634) * ln(x))
