"""The recursions of a hidden Markov model, compiled: see `labctl.analysis.rtn`."""

from math import log

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def expect(
    density: NDArray[np.float64], move: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Posterior (n, k), expected transitions (k, k), log likelihood; density (n, k) of each sample on each level."""
    n, k = density.shape
    alpha, scale = np.empty((n, k)), np.empty(n)
    likelihood = 0.0
    for t in range(n):
        total = 0.0
        for j in range(k):
            p = 0.0
            if t == 0:
                p = start[j]
            else:
                for i in range(k):
                    p += alpha[t - 1, i] * move[i, j]
            alpha[t, j] = p * density[t, j] + 1e-300
            total += alpha[t, j]
        scale[t] = total
        likelihood += log(total)
        for j in range(k):
            alpha[t, j] /= total
    pairs = np.zeros((k, k))
    beta, before = np.ones(k), np.empty(k)
    for t in range(n - 1, 0, -1):
        # alpha[t] becomes the posterior; beta stands at t
        for i in range(k):
            before[i] = 0.0
            for j in range(k):
                step = move[i, j] * density[t, j] * beta[j] / scale[t]
                before[i] += step
                pairs[i, j] += alpha[t - 1, i] * step
        total = 0.0
        for j in range(k):
            alpha[t, j] *= beta[j]
            total += alpha[t, j]
        for j in range(k):
            alpha[t, j] /= total
            beta[j] = before[j]
    for j in range(k):
        alpha[0, j] *= beta[j]
    alpha[0] /= alpha[0].sum()
    return alpha, pairs, likelihood
