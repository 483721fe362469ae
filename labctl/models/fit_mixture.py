"""A Gaussian mixture of devices from measured values with known errors ("extreme deconvolution").

Bovy, Hogg and Roweis, Annals of Applied Statistics 5:1657 (2011): expectation and maximisation for the distribution of
the true values; the errors, which make a measured distribution too wide, are taken out.
"""

import numpy as np

from labctl.models.device import FloatArray

_STARTS, _ROUNDS, _TOLERANCE = 4, 300, 1e-6


def deconvolve(values: FloatArray, errors: FloatArray, components: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights (K,), largest first, means (K, q) and covariances (K, q, q) of the true values.

    values (devices, q), errors (devices, q, q). The best of several starts; each is the same in every run. A component
    counts as many devices more as it has quantities, with a tenth of the whole's variance, which keeps it regular.
    """
    centre = values.mean(axis=0)
    spread = values.std(axis=0)
    unit = np.maximum(spread, np.maximum(np.abs(centre), 1e-12) * 1e-6)  # one device has no spread
    x = (values - centre) / unit
    s = errors / unit[:, None] / unit
    best = max(
        (_climb(x, s, components, start) for start in range(_STARTS if components > 1 else 1)), key=lambda r: r[0]
    )
    _, weights, means, covariances = best
    order = np.argsort(-weights)
    return weights[order], centre + unit * means[order], covariances[order] * unit[:, None] * unit


def _climb(
    x: FloatArray, s: FloatArray, components: int, start: int
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    devices, q = x.shape
    rng = np.random.default_rng(start)
    if components > 1:  # begin with the middle and with what is far from it: outliers decide a mixture
        distance = (x**2).sum(axis=1) * np.exp(rng.normal(0.0, 0.5, devices))
        group = np.searchsorted(np.quantile(distance, 1.0 - 0.5 ** np.arange(1, components)), distance)
    else:
        group = np.zeros(devices, int)
    share = np.eye(components)[group] * 0.9 + 0.1 / components
    means = (share.T @ x) / share.sum(axis=0)[:, None]
    whole = np.maximum(x.var(axis=0), 1e-6)
    covariances = np.array([np.diag(whole) * (1 + 2 * k) for k in range(components)])
    weights = share.mean(axis=0)
    before = -np.inf
    for _ in range(_ROUNDS):
        log, conditional, variance = _expect(x, s, weights, means, covariances)
        top = log.max(axis=1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(log - top).sum(axis=1))
        share = np.exp(log - total[:, None])
        count = share.sum(axis=0)
        weights = np.maximum(count, 1e-9) / np.maximum(count, 1e-9).sum()
        means = np.einsum("dk,kdi->ki", share, conditional) / count[:, None]
        off = conditional - means[:, None]
        covariances = np.einsum("dk,kdi,kdj->kij", share, off, off) + np.einsum("dk,kdij->kij", share, variance)
        covariances = (covariances + q * 0.1 * np.diag(whole) * (components > 1)) / (count + q * (components > 1))[
            :, None, None
        ]
        covariances += 1e-6 * np.eye(q)
        likelihood = float(total.mean())
        if likelihood - before < _TOLERANCE:
            break
        before = likelihood
    return likelihood, weights, means, covariances


def _expect(
    x: FloatArray, s: FloatArray, weights: FloatArray, means: FloatArray, covariances: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log density (devices, K), conditional means (K, devices, q) and variances (K, devices, q, q)."""
    t = covariances[:, None] + s
    inverse = np.linalg.inv(t)
    off = x - means[:, None]
    pulled = np.einsum("kdij,kdj->kdi", inverse, off)
    log = -0.5 * (np.einsum("kdi,kdi->dk", off, pulled) + np.linalg.slogdet(t)[1].T + x.shape[1] * np.log(2 * np.pi))
    gain = np.einsum("kij,kdjl->kdil", covariances, inverse)
    conditional = means[:, None] + np.einsum("kij,kdj->kdi", covariances, pulled)
    variance = covariances[:, None] - np.einsum("kdil,klj->kdij", gain, covariances)
    return log + np.log(weights), conditional, variance
