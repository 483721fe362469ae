"""Vectors of 16 lanes against numpy: every operation, lane by lane."""

import numpy as np
import pytest
from numba import njit

from labctl.models import simd
from labctl.models.generative_math import exp2, ln
from labctl.models.simd import LANES

RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=LANES).astype(np.float32) * 50 for _ in range(2))
V, W = (RNG.integers(0, 2**32, LANES, dtype=np.uint32) for _ in range(2))


@njit
def _floats(a, b, out):  # type: ignore[no-untyped-def]
    p, q, o = simd.pointer(a), simd.pointer(b), simd.pointer(out)
    x, y = simd.load(p, 0), simd.load(q, 0)
    z = x
    z += y
    for k, v in enumerate((
        x + y, x - y, x * y, x / y, -x, np.float32(2) * x, simd.size(x), simd.floor(x), simd.sqrt(simd.size(x)),
        simd.lesser(x, y), simd.greater(x, y), simd.choose(x < y, x, np.float32(7)), simd.choose(x >= y, x, y),
        simd.choose((x <= y) & ~(x > np.float32(0)), x, y), z, simd.spread(p, 3),
        simd.to_floats(simd.to_words(x)), simd.from_bits(simd.bits(x)),
    )):  # fmt: skip
        simd.store(o, k * LANES, v)


def test_floats() -> None:
    out = np.empty((18, LANES), np.float32)
    _floats(A, B, out)
    mixed = np.where((A <= B) & ~(A > 0), A, B)
    wanted = [
        A + B, A - B, A * B, A / B, -A, 2 * A, abs(A), np.floor(A), np.sqrt(abs(A)), np.minimum(A, B), np.maximum(A, B),
        np.where(A < B, A, 7), np.where(A >= B, A, B), mixed, A + B, np.full(LANES, A[3]), np.trunc(A), A,
    ]  # fmt: skip
    for got, expected in zip(out, wanted, strict=True):
        assert np.array_equal(got, expected.astype(np.float32))


@njit
def _words(v, w, out):  # type: ignore[no-untyped-def]
    p, q, o = simd.pointer(v), simd.pointer(w), simd.pointer(out)
    x, y = simd.load(p, 0), simd.load(q, 0)
    high, low = simd.product(x, np.uint32(0xD2511F53))
    for k, z in enumerate((
        x + y, x - y, x * y, x & y, x | y, x ^ y, ~x, x << np.uint32(5), x >> np.uint32(5), high, low,
        simd.counted(np.uint32(9)), simd.exponent(x), simd.choose(x != y, x, y), simd.splat(np.uint32(6)),
    )):  # fmt: skip
        simd.store(o, k * LANES, z)


def test_words() -> None:
    out = np.empty((15, LANES), np.uint32)
    _words(V, W, out)
    wide = V.astype(np.uint64) * np.uint64(0xD2511F53)
    wanted = [
        V + W, V - W, V * W, V & W, V | W, V ^ W, ~V, V << np.uint32(5), V >> np.uint32(5), wide >> np.uint64(32),
        wide & np.uint64(0xFFFFFFFF), np.arange(9, 9 + LANES), (V.view(np.int32) >> 23).view(np.uint32), V,
        np.full(LANES, 6),
    ]  # fmt: skip
    for got, expected in zip(out, wanted, strict=True):
        assert np.array_equal(got, expected)


@njit
def _marks(number, a, small, wide):  # type: ignore[no-untyped-def]
    p, s, d = simd.pointer(a), simd.pointer(small), simd.pointer(wide)
    marks = simd.unpack(number)
    x = simd.load(p, 0)
    simd.put(p, 0, marks, x + np.float32(1))
    simd.put(s, 0, marks, simd.load(s, 0) + np.uint32(1))
    simd.store(d, 0, x)
    return simd.pack(marks), simd.some(marks), simd.every(marks), simd.lane_of(x, 2)


@pytest.mark.parametrize("number", [0, 1, 0x8001, 0x5A5A, 0xFFFF])
def test_marked_lanes_and_narrow_and_wide_arrays(number: int) -> None:
    a, small, wide = A.copy(), np.full(LANES, 255, np.uint8), np.empty(LANES)
    marked = ((number >> np.arange(LANES)) & 1).astype(bool)
    assert _marks(number, a, small, wide) == (number, number != 0, number == 0xFFFF, A[2])
    assert np.array_equal(a, np.where(marked, A + np.float32(1), A))
    assert np.array_equal(small, np.where(marked, 0, 255))
    assert np.array_equal(wide, A.astype(float))
    if number:
        assert _lowest(number) == np.flatnonzero(marked)[0]


@njit
def _lowest(number):  # type: ignore[no-untyped-def]
    return simd.lowest(number)


@njit
def _elementary(x, y, out, two):  # type: ignore[no-untyped-def]
    for i in range(0, x.size, LANES):
        simd.store(simd.pointer(out), i, ln(simd.load(simd.pointer(x), i)))
        simd.store(simd.pointer(two), i, exp2(simd.load(simd.pointer(y), i)))


def test_elementary_functions() -> None:
    """Within the errors that they state."""
    n = 16000
    x = (2.0 ** RNG.uniform(-100, 100, n)).astype(np.float32)
    x[: n // 2] = RNG.uniform(0.3, 3.0, n // 2)
    y = RNG.uniform(-120, 120, n).astype(np.float32)
    out, two = np.empty(n, np.float32), np.empty(n, np.float32)
    _elementary(x, y, out, two)
    assert out == pytest.approx(np.log(x.astype(float)), rel=3e-7)
    assert np.max(np.abs(two / 2.0 ** y.astype(float) - 1) / (2e-7 + 6e-8 * np.abs(y))) < 1
