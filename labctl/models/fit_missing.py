"""Switching voltages for cycles of which only the resistances are known: endurance runs apply pulses, not ramps.

They are drawn given the resistances, by a model that knows both: conditional simulation of a Gaussian process (Hoffman
and Ribak, Astrophys. J. 380:L5, 1991): an unconditional draw, plus the regression on what the known part lacks.
"""

import numpy as np
from scipy.special import ndtri

from labctl.models.device import FloatArray
from labctl.models.generative_params import GenerativeParams

_R, _V = np.array([0, 2]), np.array([1, 3])
_REACH, _BURN = 20, 200  # cycles before and after that count; cycles until a drawn process has forgotten its start


def complete(params: GenerativeParams, resistances: list[FloatArray], seed: int = 0) -> list[FloatArray]:
    """Features (cycles, 4) of devices: r_hrs, v_set (> 0), r_lrs, v_reset (< 0), in Ω and V.

    resistances: one (cycles, 2) a device, r_hrs and r_lrs in Ω of consecutive cycles, each of a non-zero spread.
    """
    rng = np.random.default_rng(seed)
    known = [np.stack([np.log10(r[:, 0]), r[:, 1]], axis=1) for r in resistances]
    place = np.array([y.mean(axis=0) for y in known])
    scale = np.array([y.std(axis=0) for y in known])
    scaled = [(y - m) / s for y, m, s in zip(known, place, scale, strict=True)]
    scores = _normal_scores(scaled)
    out = []
    for x, r, m, s in zip(scores, resistances, place, scale, strict=True):
        latent = _latent(params, x, rng)
        mu, sigma = _device(params, m, s, rng)
        u = mu + sigma * np.stack([np.polyval(params.gamma[f], latent[:, k]) for k, f in enumerate(_V)], axis=1)
        v_set, v_reset = np.maximum(-u[:, 0], 1e-3), np.minimum(-u[:, 1], -1e-3)
        out.append(np.stack([r[:, 0], v_set, r[:, 1], v_reset], axis=1))
    return out


def _normal_scores(scaled: list[FloatArray]) -> list[FloatArray]:
    pool = np.sort(np.concatenate(scaled), axis=0)
    n = len(pool)
    return [
        np.stack([ndtri((np.searchsorted(pool[:, k], w[:, k]) + 0.5) / n) for k in range(2)], axis=1) for w in scaled
    ]


def _latent(params: GenerativeParams, x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Latent (cycles, 2) of the voltages, given those of the resistances."""
    n, reach = len(x), min(_REACH, len(x) - 1)
    c = params.autocovariance(2 * reach)

    def covariance(lag: int) -> FloatArray:  # E[x(n) x(n - lag)']
        return np.asarray(c[lag] if lag >= 0 else c[-lag].T)

    window = range(-reach, reach + 1)
    between = np.block([[covariance(j - k)[np.ix_(_R, _R)] for k in window] for j in window])
    across = np.concatenate([covariance(-k)[np.ix_(_V, _R)] for k in window], axis=1)
    weights = np.linalg.solve(between + 1e-9 * np.eye(len(between)), across.T)  # (window · 2, 2)
    drawn = _process(params, n, rng)
    lacking = np.pad(x - drawn[:, _R], ((reach, reach), (0, 0)))
    rows = np.lib.stride_tricks.sliding_window_view(lacking, 2 * reach + 1, axis=0)  # (n, 2, window)
    return np.asarray(drawn[:, _V] + rows.swapaxes(1, 2).reshape(n, -1) @ weights)


def _process(params: GenerativeParams, n: int, rng: np.random.Generator) -> FloatArray:
    """A stationary run of the VAR, (n, 4)."""
    p = params.order
    past = np.concatenate(params.lags[::-1], axis=1)  # oldest first
    x = np.zeros((p + _BURN + n, 4))
    noise = rng.standard_normal((len(x), 4)) @ params.innovation.T
    for t in range(p, len(x)):
        x[t] = noise[t] + past @ x[t - p : t].ravel()
    return x[-n:]


def _device(
    params: GenerativeParams, place: FloatArray, scale: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Place and scale (of U) of the device's voltages, given those of its resistances."""
    given, wanted = np.concatenate([_R, _R + 4]), np.concatenate([_V, _V + 4])
    value = np.concatenate([place, scale])
    covariances = params.spreads @ params.spreads.swapaxes(1, 2)
    parts = []
    for weight, mean, covariance in zip(params.weights, params.means, covariances, strict=True):
        own = covariance[np.ix_(given, given)]
        gain = np.linalg.solve(own + 1e-9 * np.diag(np.diag(own)), covariance[np.ix_(given, wanted)]).T
        apart = value - mean[given]
        distance = float(apart @ np.linalg.solve(own + 1e-9 * np.diag(np.diag(own)), apart))
        log = np.log(weight) - 0.5 * (distance + np.linalg.slogdet(own)[1])
        # a device unlike any that the model knows would be carried far off: it goes no further than 3 σ
        centre = mean[wanted] + gain @ apart * min(1.0, 3.0 / max(distance, 1e-12) ** 0.5)
        left = covariance[np.ix_(wanted, wanted)] - gain @ covariance[np.ix_(given, wanted)]
        parts.append((log, centre, left))
    logs = np.array([part[0] for part in parts])
    chosen = rng.choice(len(parts), p=np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum())
    _, centre, left = parts[chosen]
    values, vectors = np.linalg.eigh((left + left.T) / 2)
    drawn = centre + vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.standard_normal(4))
    return drawn[:2], np.abs(drawn[2:])
