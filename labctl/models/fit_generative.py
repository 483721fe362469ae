"""Learn the generative model of a chip from its own cycles and I–V curves.

Steps, each a function of arrays: place and scale of each device (with their errors), the quantile map from a normal
to the scaled features, the VAR of the mapped features by Yule and Walker's equations, the mixture of the devices with
the errors taken out (Bovy, Hogg, Roweis, Ann. Appl. Stat. 5:1657, 2011), the I–V polynomials by least squares.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from labctl.errors import UsageError
from labctl.models.device import FloatArray
from labctl.models.fit import Goodness, goodness
from labctl.models.fit_curves import fit_curves
from labctl.models.fit_mixture import deconvolve
from labctl.models.generative import generate_cycles
from labctl.models.generative_params import DEFAULT, GenerativeParams, load

_BLOCKS = 8  # parts of a record that tell the error of its mean and scale
_SAMPLES = 320  # cycles that one more order of the VAR takes: 20 for each of its 16 numbers
_GRID = ndtri(np.linspace(0.0005, 0.9995, 1999))  # where the quantile map is fitted
_SIGNS = np.array([1.0, -1.0, 1.0, -1.0])  # from v = v_bl - v_sl to the paper's U


@dataclass(frozen=True)
class GenerativeFit:
    """The learned parameters (`params.save(path)` writes the file a station names), and how well they do."""

    params: GenerativeParams
    goodness: Goodness


def fit_generative(
    cycles: ArrayLike,
    *,
    order: int = 10,
    components: int = 3,
    v_read: float = 0.2,
    curves: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    transition: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    like: GenerativeParams | None = None,
    provenance: str = "",
    seed: int = 0,
) -> GenerativeFit:
    """Fit the generative model.

    cycles: (devices, cycles, 4): r_hrs (Ω), v_set (V, > 0), r_lrs (Ω), v_reset (V, < 0) of consecutive cycles, as
        `labctl.analysis.loops.set_reset_features` gives them for each device.
    v_read: voltage (V) at which the resistances were read; negative on the side of the RESET.
    order: of the VAR. components: of the mixture of devices.
    curves: v (V), i (A), g (S), each (n,), as `labctl.analysis.loops.state_curves` gives; None keeps those of `like`.
    transition: v (V), i (A), start (V), each (n,): RESET samples below `u_max` and where each RESET began; None keeps
        the exponent of `like`.
    like: where u_max, gate, timing and what is not fitted come from (None: our default file).
    seed: of the model data that the goodness compares with.

    Raises `UsageError` for data that are not finite, of the wrong shape or sign, or too few for what is asked.
    """
    like = load(DEFAULT) if like is None else like
    if not (isinstance(v_read, int | float) and 0 < abs(v_read) <= like.u_limit):
        raise UsageError(f"v_read = {v_read!r} V; give the voltage of the reads, not 0, within ±{like.u_limit:g} V")
    y = _checked(cycles, order, components)
    place, scale, error = _devices(y)
    w = (y - place[:, None]) / scale[:, None]
    unit_error = error[:4, :4]
    gamma, x = _maps(w)
    innovation, lags = _autoregression(x, order, unit_error)
    scale = scale * np.sqrt(1.0 + np.diag(unit_error))  # the mean took part of the spread with it
    spread = np.concatenate([scale, scale], axis=1)
    errors = error * spread[:, :, None] * spread[:, None, :]
    weights, means, covariances = deconvolve(np.concatenate([place, scale], axis=1), errors, components)
    devices, n = y.shape[:2]
    params = replace(
        like,
        u_read=-float(v_read),
        innovation=innovation,
        lags=lags,
        gamma=gamma,
        weights=weights,
        means=means,
        spreads=np.asarray(np.linalg.cholesky(covariances), np.float64),
        provenance=provenance or f"fitted to {devices} devices × {n} cycles, VAR({order}), {components} components",
    )
    if curves is not None:
        params = fit_curves(params, *curves, transition=transition)
    generated = generate_cycles(params, max(devices, 2000), n, seed) if n <= 500 else _enough(params, devices, n, seed)
    return GenerativeFit(params, goodness(np.asarray(cycles, np.float64), generated))


def _enough(params: GenerativeParams, devices: int, cycles: int, seed: int) -> FloatArray:
    """As many generated devices as make four million cycles, at least as many as recorded."""
    return generate_cycles(params, max(devices, 4_000_000 // cycles), cycles, seed)


def _checked(cycles: ArrayLike, order: int, components: int) -> FloatArray:
    """y of the paper, (devices, cycles, 4)."""
    try:
        data = np.asarray(cycles, np.float64)
    except (TypeError, ValueError):
        raise UsageError("cycles is not an array of numbers; give (devices, cycles, 4)") from None
    if data.ndim != 3 or data.shape[2] != 4 or 0 in data.shape:
        raise UsageError(f"cycles has shape {data.shape}; give (devices, cycles, 4): r_hrs, v_set, r_lrs, v_reset")
    if not np.isfinite(data).all():
        bad = ~np.isfinite(data).all(axis=(1, 2))
        raise UsageError(
            f"{bad.sum()} of {len(data)} devices have cycles with NaN or infinity (first: device {np.argmax(bad)}); "
            f"leave those devices out, or cut the record before"
        )
    if not ((data * _SIGNS > 0) == [True, False, True, True]).all():
        raise UsageError("a resistance or v_set is not > 0, or a v_reset is not < 0; give Ω and v = v_bl - v_sl in V")
    if not (isinstance(order, int | np.integer) and 1 <= order <= 255):
        raise UsageError(f"order = {order} of the VAR; give a whole number from 1 to 255")
    if not (isinstance(components, int | np.integer) and components >= 1):
        raise UsageError(f"components = {components} of the mixture; give a whole number >= 1")
    devices, n = data.shape[:2]
    if n < max(50, 5 * order) or devices * n < _SAMPLES * order:
        raise UsageError(
            f"{devices} devices × {n} cycles are too few for order {order}; record at least {max(50, 5 * order)} "
            f"cycles of each and {_SAMPLES * order} in all, or lower the order"
        )
    if devices < (1 if components == 1 else 20 * components):
        raise UsageError(
            f"{devices} devices are too few for {components} components; record {20 * components}, or lower components"
        )
    y: FloatArray = data * _SIGNS
    y[..., 0] = np.log10(y[..., 0])
    if not (y.std(axis=1) > 1e-9 * np.abs(y.mean(axis=1))).all():
        raise UsageError("a feature of a device never changes over its cycles; leave out devices that are stuck")
    return y


def _devices(y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean and SD of each device, (devices, 4) each, and the covariance (8, 8) of their errors in units of the SD.

    The error comes from the scatter of block means and block SDs about the device's own; the slow part of the
    autocorrelation, longer than a block, is not in it.
    """
    place, scale = y.mean(axis=1), y.std(axis=1)
    n = y.shape[1] // _BLOCKS * _BLOCKS
    blocks = y[:, :n].reshape(len(y), _BLOCKS, -1, 4)
    parts = np.concatenate([blocks.mean(axis=2) / scale[:, None], blocks.std(axis=2) / scale[:, None]], axis=2)
    parts = parts - parts.mean(axis=1, keepdims=True)
    error = np.einsum("dbi,dbj->ij", parts, parts) / (len(y) * (_BLOCKS - 1) * _BLOCKS)
    return place, scale, error


def _maps(w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Quartic maps (4, 5) from a standard normal to w, of mean 0 and variance 1; the normal scores of w."""
    gamma, x = np.empty((4, 5)), np.empty_like(w)
    for f in range(4):
        values = np.sort(w[..., f], axis=None)
        at = (np.arange(values.size) + 0.5) / values.size
        quantiles = np.interp(_probability(_GRID), at, values)
        coefficients = np.polyfit(_GRID, quantiles, 4, w=np.exp(-(_GRID**2) / 8))
        mean, variance = _moments(coefficients)
        coefficients[-1] -= mean
        gamma[f] = coefficients / np.sqrt(variance)
        ranks = np.searchsorted(values, w[..., f]) + 0.5
        x[..., f] = ndtri(np.minimum(ranks / values.size, 1 - 0.5 / values.size))
    return gamma, x


def _probability(z: FloatArray) -> FloatArray:
    return np.linspace(0.0005, 0.9995, z.size)


def _moments(c: FloatArray) -> tuple[float, float]:
    """Mean and variance of a quartic (highest power first) of a standard normal."""
    even = [1.0, 0.0, 1.0, 0.0, 3.0, 0.0, 15.0, 0.0, 105.0]  # E[z**k]
    p = c[::-1]
    mean = sum(a * even[k] for k, a in enumerate(p))
    square = sum(a * b * even[j + k] for j, a in enumerate(p) for k, b in enumerate(p))
    return float(mean), float(square - mean**2)


def _autoregression(x: FloatArray, order: int, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """L (4, 4) and A (order, 4, 4) of a stationary VAR of unit variance like x (devices, cycles, 4).

    Taking a device's mean out of n cycles takes the covariance of that mean, `error`, out of every lag; it is put back.
    """
    n = x.shape[1]
    c = np.array([np.einsum("dti,dtj->ij", x[:, k:], x[:, : n - k]) / (len(x) * n) for k in range(order + 1)])
    c = c / (1 - np.arange(order + 1) / n)[:, None, None] + error
    unit = 1.0 / np.sqrt(np.diag(c[0]))
    c *= unit[:, None] * unit
    block = np.block([[c[j - i] if j >= i else c[i - j].T for j in range(order)] for i in range(order)])
    right = np.concatenate(list(c[1:]), axis=1)
    solution = np.linalg.solve(block.T, right.T).T
    lags = solution.reshape(4, order, 4).swapaxes(0, 1)
    noise = c[0] - sum(a @ b.T for a, b in zip(lags, c[1:], strict=True))
    try:
        return np.linalg.cholesky((noise + noise.T) / 2), lags
    except np.linalg.LinAlgError:
        raise UsageError(
            f"the cycles do not determine a VAR of order {order}; record more, or lower the order"
        ) from None
