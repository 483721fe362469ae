"""How conductances move with time: drift laws, time to failure, activation energy, relaxation of an array.

Times in s since programming (> 0), conductances in S. A table of `retention` gives t, g and the cell of each row;
`labctl.analysis.estimate.pivot` makes (cells, times) of it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.estimate import (
    Estimate,
    Floats,
    Ints,
    Line,
    curve_fit,
    level,
    line,
    numbers,
    positive,
    same_length,
)
from labctl.errors import UsageError

BOLTZMANN_EV = 8.617333262e-5
"""k in eV/K (CODATA 2018)."""


class Drift(NamedTuple):
    """G(t) = g0·(t/t0)^−nu."""

    g0: Estimate  # S, at t0
    nu: Estimate  # > 0: G falls
    t0: float  # s
    residual: float  # standard deviation of ln G about the law
    law: Line  # ln G against ln t

    def at(self, t: float) -> Estimate:
        """G (S) at t s, with the interval of the law."""
        return Estimate(*(float(np.exp(y)) for y in self.law.at(float(np.log(t)))))

    def reaches(self, g: float) -> Estimate:
        """When (s) the law reaches g (S); an end is inf (or 0) where the data do not bound it.

        Beyond the record this is an extrapolation: it holds if the law does.
        """
        with np.errstate(over="ignore"):
            return Estimate(*(float(np.exp(x)) for x in self.law.reaches(float(np.log(g)))))


class Stretched(NamedTuple):
    """y(t) = end + (start − end)·exp(−(t/tau)^beta), y = G or ln G as it was given."""

    start: Estimate
    end: Estimate  # known: the interval is the value
    tau: Estimate  # s
    beta: Estimate
    residual: float  # in the unit of y

    def reaches(self, y: float) -> float:
        """When (s) the fitted law reaches y; inf where it never does."""
        part = (y - self.end.value) / (self.start.value - self.end.value)
        if part >= 1:
            return 0.0
        return float(self.tau.value * (-np.log(part)) ** (1 / self.beta.value)) if part > 0 else float("inf")


class Failures(NamedTuple):
    """When each cell left its band; both (cells,)."""

    t: Floats  # s; of a cell that has not: the last time it was read; nan: never read inside
    failed: NDArray[np.bool_]


class Arrhenius(NamedTuple):
    """tau(T) = tau_inf·exp(energy/kT)."""

    energy: Estimate  # eV
    law: Line  # ln tau against 1/kT (1/eV)

    def at(self, kelvin: float) -> Estimate:
        """tau (s) at a temperature (K), with the interval of the law."""
        if not kelvin > 0:
            raise UsageError(f"temperature = {kelvin} K; give a temperature > 0 K")
        with np.errstate(over="ignore"):
            return Estimate(*(float(np.exp(y)) for y in self.law.at(1 / (BOLTZMANN_EV * kelvin))))


class Relaxation(NamedTuple):
    """Shift of an array's cells from where they were; each (times,)."""

    t: Floats  # s
    n: Ints  # cells read
    mean: Floats  # S
    mean_low: Floats
    mean_high: Floats
    sigma: Floats  # S
    sigma_low: Floats
    sigma_high: Floats


def drift(t: ArrayLike, g: ArrayLike, t0: float = 1.0, confidence: float = 0.95) -> Drift:
    """The power law of one cell, or of cells that share it; t (s), g (S), each (n,) and > 0, n ≥ 3.

    Linear regression of ln G on ln t (Ielmini et al., IEEE Trans. Electron Devices 54:308, 2007, for the law).
    Raises `UsageError`.
    """
    times, values = positive("t", t, 3), positive("g", g, 3)
    same_length(t=times, g=values)
    if not (np.isfinite(t0) and t0 > 0):
        raise UsageError(f"t0 = {t0} s; give a time > 0 s")
    law = line(np.log(times), np.log(values), confidence)
    g0 = Estimate(*(float(np.exp(y)) for y in law.at(float(np.log(t0)))))
    nu = Estimate(-law.b, -law.slope.high, -law.slope.low)
    return Drift(g0, nu, t0, law.residual, law)


def stretched(t: ArrayLike, y: ArrayLike, end: float | None = None, confidence: float = 0.95) -> Stretched:
    """The stretched exponential (Kohlrausch 1854) of one cell: t (s, > 0) and y (G in S, or ln G), each (n,), n ≥ 5.

    end: where it ends, if known; a record that does not come near it cannot tell. tau and beta are fitted as logarithms
    and so are their intervals. Raises `MeasurementError` when the record does not determine the law.
    """
    times, values = positive("t", t, 5), numbers("y", y, 5)
    same_length(t=times, y=values)
    order = np.argsort(times)
    times, values = times[order], values[order]
    scale = float(np.ptp(values)) or 1.0
    last = float(values[-1]) if end is None else end
    half = np.flatnonzero(np.abs(values - values[0]) > abs(last - values[0]) * (1 - np.exp(-1)))
    tau = float(times[half[0]]) if len(half) else float(times[-1]) * 10

    def law(q: Floats) -> Floats:
        stop = q[3] * scale if end is None else end
        with np.errstate(over="ignore"):
            power = np.exp(np.minimum(np.exp(q[2]) * (np.log(times) - q[1]), 50.0))
        return np.asarray((stop + (q[0] * scale - stop) * np.exp(-power) - values) / scale)

    start = [float(values[0]) / scale, float(np.log(tau)), float(np.log(0.7)), *([last / scale] if end is None else [])]
    found, residual = curve_fit(law, start, "a stretched exponential", confidence)
    tau_found, beta = (Estimate(*(float(np.exp(min(q, 700.0))) for q in found[k])) for k in (1, 2))
    ends = Estimate(*(q * scale for q in found[3])) if end is None else Estimate(end, end, end)
    return Stretched(Estimate(*(q * scale for q in found[0])), ends, tau_found, beta, residual * scale)


def failures(t: ArrayLike, g: ArrayLike, low: ArrayLike, high: ArrayLike) -> Failures:
    """When each cell left low … high (S) for the first time; g (cells, times), t (times,) rising, nan where unread.

    low, high: one for all, or (cells,). The time is interpolated over ln t between the last reading inside and the
    first outside. Cells that have not failed are limits: `distributions.fit_lognormal(t, ~failed)` takes both. Raises
    `UsageError`.
    """
    times, x = positive("t", t), np.asarray(g, np.float64)
    if x.ndim != 2 or x.shape[1] != len(times) or not (np.diff(times) > 0).all():
        raise UsageError(f"g has shape {x.shape} for {len(times)} times; give (cells, times), the times rising")
    bottom, top = (np.broadcast_to(np.asarray(q, np.float64), len(x)) for q in (low, high))
    if not np.all(bottom < top):
        raise UsageError("low must be below high for every cell")
    when, failed = np.full(len(x), np.nan), np.zeros(len(x), bool)
    for k, row in enumerate(x):
        read = np.flatnonzero(~np.isnan(row))
        out = read[(row[read] < bottom[k]) | (row[read] > top[k])]
        if not len(read) or (len(out) and out[0] == read[0]):
            failed[k] = bool(len(read))
            continue  # never inside: no time can be given
        if not len(out):
            when[k] = times[read[-1]]
            continue
        after = int(out[0])
        before = int(read[np.searchsorted(read, after) - 1])
        edge = bottom[k] if row[after] < bottom[k] else top[k]
        part = (edge - row[before]) / (row[after] - row[before])
        when[k], failed[k] = times[before] * (times[after] / times[before]) ** part, True
    return Failures(when, failed)


def arrhenius(temperature: ArrayLike, tau: ArrayLike, confidence: float = 0.95) -> Arrhenius:
    """Activation energy from times at several temperatures: temperature (K), tau (s), each (n,) and > 0.

    Regression of ln tau on 1/kT; several cells a temperature are several rows. With two rows the interval is nan.
    Raises `UsageError` for fewer than two temperatures.
    """
    kelvin, times = positive("temperature", temperature, 2), positive("tau", tau, 2)
    same_length(temperature=kelvin, tau=times)
    if len(np.unique(kelvin)) < 2:
        raise UsageError(f"all runs were at {kelvin[0]:g} K; an activation energy needs two temperatures at least")
    law = line(1 / (BOLTZMANN_EV * kelvin), np.log(times), confidence)
    return Arrhenius(law.slope, law)


def relaxation(t: ArrayLike, g: ArrayLike, start: ArrayLike | None = None, confidence: float = 0.95) -> Relaxation:
    """Mean and σ of the cells' shift at each time: g (cells, times) in S, nan where unread, t (times,) in s.

    start: (cells,) or one, S, from where the shift counts: what was verified, or the target; None: the first reading,
    whose own shift is then 0. Intervals of normal shifts (Student, χ²). nan where fewer than two cells were read.
    """
    from scipy.stats import chi2
    from scipy.stats import t as student

    times, x = numbers("t", t), np.asarray(g, np.float64)
    if x.ndim != 2 or x.shape[1] != len(times) or np.isinf(x).any():
        raise UsageError(f"g has shape {x.shape} for {len(times)} times; give (cells, times)")
    origin = x[:, 0] if start is None else np.broadcast_to(np.asarray(start, np.float64), len(x))
    shift = x - origin[:, None]
    n = (~np.isnan(shift)).sum(0)
    tail, free = (1 - level(confidence)) / 2, np.maximum(n - 1, 1)
    enough = np.where(n > 1, 1.0, np.nan)
    mean = np.nansum(shift, 0) / np.maximum(n, 1) * enough
    sigma = np.sqrt(np.nansum((shift - mean) ** 2, 0) / free) * enough
    half = np.asarray(student.ppf(1 - tail, free)) * sigma / np.sqrt(np.maximum(n, 1))
    low, high = (sigma * np.sqrt(free / np.asarray(chi2.ppf(q, free))) for q in (1 - tail, tail))
    return Relaxation(times, n.astype(np.int64), mean, mean - half, mean + half, sigma, low, high)
