"""The I–V curves of a cell's states: two polynomials, mixed by the state's conductance; the shape of a RESET.

In Hennen et al. (2022), I(U) = (1 - r) LLRS(U) + r HHRS(U) with r = (G_L - G) / (G_L - G_H), so at each voltage the
current is an affine function of the conductance G at the read voltage. That is fitted, linearly, and then written as
two curves, one at a conductance beyond the largest met, one below the smallest.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from labctl.errors import UsageError
from labctl.models.device import FloatArray
from labctl.models.generative_params import GenerativeParams

DEGREE = 6


def fit_curves(
    params: GenerativeParams,
    v: ArrayLike,
    i: ArrayLike,
    g: ArrayLike,
    *,
    transition: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
) -> GenerativeParams:
    """`params` with llrs, hhrs and u_limit of these samples, and eta of these RESET samples.

    v (V, = v_bl - v_sl), i (A) and g (S, conductance of the sample's state at -`params.u_read`) are (n,).
    transition: v (V), i (A), start (V, < 0): samples of RESETs, each from its start to -u_max or beyond in the order of
        measuring, and where it began.
    Raises `UsageError` for samples that are not finite, too few, or of one state or one polarity only.
    """
    u, current, conductance = (-a if k < 2 else a for k, a in enumerate(_columns("curves", v, i, g)))
    u_read = params.u_read
    if u.size < 100 or not (u.min() < -abs(u_read) and u.max() > abs(u_read)):
        raise UsageError(f"{u.size} samples from {u.min()} to {u.max()} V; give 100 or more, of both polarities")
    low, high = np.quantile(conductance, [0.001, 0.999])
    if not 0 < low < 0.8 * high:
        raise UsageError(
            f"conductances from {low:.3g} to {high:.3g} S; give curves of HRS and LRS, all conductances > 0"
        )
    powers = np.arange(2.0, DEGREE + 1)
    basis = u[:, None] ** powers - u[:, None] * u_read ** (powers - 1)  # vanishes at the read voltage
    design = np.concatenate([basis * high, basis * conductance[:, None]], axis=1)
    solution = np.linalg.lstsq(design, current - conductance * u, rcond=None)[0].reshape(2, -1) * [[high], [1.0]]
    span = high - low
    curves = [_curve(solution[0] + solution[1] * k, k, powers, u_read) for k in (high + 0.1 * span, low - 0.1 * span)]
    fitted = replace(params, llrs=curves[0], hhrs=curves[1], u_limit=float(np.abs(u).max()))
    return fitted if transition is None else replace(fitted, eta=_exponent(fitted, *transition))


def _curve(bend: FloatArray, conductance: float, powers: FloatArray, u_read: float) -> FloatArray:
    """Coefficients, highest power first, of conductance * U + sum bend_j (U**j - U u_read**(j-1))."""
    first = conductance - float(bend @ u_read ** (powers - 1))
    return np.concatenate([bend[::-1], [first, 0.0]])


def _exponent(params: GenerativeParams, v: ArrayLike, i: ArrayLike, start: ArrayLike) -> float:
    """eta of I(U) = a |U_max - U|**eta + c; a and c of each RESET from its own first and last sample."""
    u, current, begin = (-a for a in _columns("transition", v, i, start))
    slopes, weights = [], []
    edges = np.flatnonzero((np.diff(begin) != 0) | (np.diff(u) <= 0)) + 1  # RESETs follow each other, each rising
    for x, y, one in zip(np.split(u, edges), np.split(current, edges), begin[[0, *edges]], strict=True):
        if len(x) < 5 or x[-1] < params.u_max:
            continue
        # the current above its value at u_max, against the way to go: a straight line in logarithms
        left, drop = (params.u_max - x) / (params.u_max - one), y - np.interp(params.u_max, x, y)
        use = (left > 0.15) & (left < 0.95) & (drop > 0.02 * drop[0])
        if use.sum() >= 3 and drop[0] > 0:
            a = np.stack([np.log(left[use]), np.ones(use.sum())], axis=1)
            slope = np.linalg.lstsq(a * drop[use][:, None], np.log(drop[use] / drop[0]) * drop[use], rcond=None)[0][0]
            slopes.append(slope)
            weights.append(drop[0])
    if not slopes:
        raise UsageError(
            f"no RESET in `transition` has five samples from its start to {params.u_max} V; give sweeps that reach it"
        )
    return float(np.average(slopes, weights=weights))


def _columns(name: str, *columns: ArrayLike) -> list[FloatArray]:
    try:
        arrays = [np.asarray(c, np.float64) for c in columns]
    except (TypeError, ValueError):
        raise UsageError(f"{name} is not made of arrays of numbers") from None
    if any(a.ndim != 1 or a.shape != arrays[0].shape or not a.size for a in arrays):
        raise UsageError(f"{name} has shapes {[a.shape for a in arrays]}; give three lists of one length, not empty")
    if not all(np.isfinite(a).all() for a in arrays):
        raise UsageError(f"{name} contains NaN or infinity; leave those samples out")
    return arrays
