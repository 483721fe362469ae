"""Random numbers that are a function of (seed, cell, count, stream) and of nothing else.

A draw does not depend on the order of the cells, on how calls are split or on the number of threads, and costs nothing
until it is used. The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), applied once for each of
the four words.
"""

from math import log, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

_A = np.uint64(0xBF58476D1CE4E5B9)
_B = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_S11, _S22, _S27, _S30, _S31, _S32, _S43 = (np.uint64(n) for n in (11, 22, 27, 30, 31, 32, 43))
_LOW, _LOW21 = np.uint64(0xFFFFFFFF), np.uint64(0x1FFFFF)


@njit(cache=True)
def _mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> _S30)) * _A
    x = (x ^ (x >> _S27)) * _B
    return x ^ (x >> _S31)


@njit(cache=True)
def bits(seed: np.uint64, cell: int, count: int, stream: int) -> np.uint64:
    """64 random bits."""
    h = _mix(np.uint64(seed) + _STEP * np.uint64(cell + 1))
    h = _mix(h + _STEP * np.uint64(count + 1))
    return _mix(h + _STEP * np.uint64(stream + 1))


@njit(cache=True)
def uniform(seed: np.uint64, cell: int, count: int, stream: int) -> float:
    """One number, uniform in (0, 1), ends excluded."""
    return (float(bits(seed, cell, count, stream) >> _S11) + 0.5) * 2.0**-53


@njit(cache=True)
def quantile(p: float) -> float:
    """Standard normal quantile of 0 < p < 1, to 1e-6 (PPND7: M. J. Wichura, Applied Statistics 37:477, 1988)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        top = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179
        return q * top / (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0)
    r = sqrt(-log(p if q < 0.0 else 1.0 - p))
    if r <= 5.0:
        r -= 1.6
        z = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777
        z /= (0.12021132975 * r + 0.73700164250) * r + 1.0
    else:
        r -= 5.0
        z = ((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150
        z /= (0.012258202635 * r + 0.24197894225) * r + 1.0
    return -z if q < 0.0 else z


@njit(cache=True)
def normal_pair(seed: np.uint64, cell: int, count: int, stream: int) -> tuple[float, float]:
    """Two independent standard normals of 32 bits each; the tails end at 6.3 standard deviations."""
    h = bits(seed, cell, count, stream)
    return quantile((float(h >> _S32) + 0.5) * 2.0**-32), quantile((float(h & _LOW) + 0.5) * 2.0**-32)


@njit(cache=True)
def normal_triple(seed: np.uint64, cell: int, count: int, stream: int) -> tuple[float, float, float]:
    """Three independent standard normals of 21 bits each; the tails end at 5 standard deviations."""
    h = bits(seed, cell, count, stream)
    return (
        quantile((float(h >> _S43) + 0.5) * 2.0**-21),
        quantile((float((h >> _S22) & _LOW21) + 0.5) * 2.0**-21),
        quantile((float(h & _LOW21) + 0.5) * 2.0**-21),
    )


@njit(cache=True)
def normal(seed: np.uint64, cell: int, count: int, stream: int) -> float:
    """One standard normal."""
    return float(quantile((float(bits(seed, cell, count, stream) >> _S11) + 0.5) * 2.0**-53))


@njit(cache=True)
def device_normals(seed: np.uint64, out: NDArray[np.float32], stream: int) -> None:
    """Fill `out` (quantities, cells) with standard normals of the devices: quantity q is drawn from stream + q."""
    for q in range(out.shape[0]):
        for cell in range(out.shape[1]):
            out[q, cell] = normal(seed, cell, 0, stream + q)
