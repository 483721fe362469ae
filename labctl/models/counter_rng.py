"""Random numbers that are a function of (seed, cell, count, stream) and of nothing else.

A draw does not depend on the order of the cells, on how calls are split or on the number of threads, and costs nothing
until it is used. The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), applied once for each of
the four words.
"""

from math import cos, log, pi, sin, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

_A = np.uint64(0xBF58476D1CE4E5B9)
_B = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_S11, _S27, _S30, _S31, _S32 = (np.uint64(n) for n in (11, 27, 30, 31, 32))
_LOW = np.uint64(0xFFFFFFFF)


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
def normal_pair(seed: np.uint64, cell: int, count: int, stream: int) -> tuple[float, float]:
    """Two independent standard normals (Box and Muller, 1958); the tail ends at 6.7 standard deviations."""
    h = bits(seed, cell, count, stream)
    radius = sqrt(-2.0 * log((float(h >> _S32) + 0.5) * 2.0**-32))
    angle = 2.0 * pi * float(h & _LOW) * 2.0**-32
    return radius * cos(angle), radius * sin(angle)


@njit(cache=True)
def normal(seed: np.uint64, cell: int, count: int, stream: int) -> float:
    """One standard normal."""
    return normal_pair(seed, cell, count, stream)[0]


@njit(cache=True)
def device_normals(seed: np.uint64, out: NDArray[np.float32], stream: int) -> None:
    """Fill `out` (quantities, cells) with standard normals of the devices: quantity q is drawn from stream + q."""
    for q in range(out.shape[0]):
        for cell in range(out.shape[1]):
            out[q, cell] = normal(seed, cell, 0, stream + q)
