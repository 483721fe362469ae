"""Potentiation, depression and STDP: how straight, how symmetric, how noisy a conductance is updated.

A train is the conductance (S) before the first pulse and after each pulse. `potentiation_depression` records trains of
both directions; `trains` cuts its table.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import Estimate, Floats, curve_fit, level, numbers, same_length
from labctl.errors import MeasurementError, UsageError


class Trains(NamedTuple):
    """One cycle a row, nan where a reading failed; the first column is the reading before the first pulse."""

    up: Floats  # (cycles, n_set + 1) S
    down: Floats  # (cycles, n_reset + 1) S


class Branch(NamedTuple):
    """One direction. G after pulse k of N: start + span·(1 − e^(−beta·k/N))/(1 − e^(−beta))."""

    beta: Estimate  # mean of the cycles' and Student's interval; 0 is straight, > 0 saturates, < 0 accelerates
    start: float  # S, mean over cycles
    span: float  # S, from start to end; < 0 where G falls
    noise: float  # S: standard deviation of one step about the fitted step
    residual: float  # S, rms of the readings about the fit of their cycle


class Update(NamedTuple):
    """Both directions together."""

    up: Branch
    down: Branch
    asymmetry: float  # 0 … 1: largest distance of the normalised curves, the depression's run backwards
    on_off: float  # highest fitted G over lowest
    states: int  # distinguishable ones within the range that both directions cover


class Stdp(NamedTuple):
    """ΔG = a_plus·e^(−Δt/tau_plus) for Δt > 0, −a_minus·e^(Δt/tau_minus) for Δt < 0."""

    a_plus: Estimate  # in the unit of ΔG
    tau_plus: Estimate  # s
    a_minus: Estimate
    tau_minus: Estimate
    residual: float  # standard deviation of ΔG about the fit


def trains(cycle: ArrayLike, v: ArrayLike, g: ArrayLike) -> Trains:
    """Cut a table in order of measuring: cycle (n,), pulse voltage v (n,) (nan: the reading before), g (n,).

    Raises `UsageError` for cycles of different lengths, or without the reading before the first pulse.
    """
    number, volts, x = numbers("cycle", cycle), numbers("v", v, missing=True), numbers("g", g, missing=True)
    same_length(cycle=number, v=volts, g=x)
    up, down = [], []
    for one in np.unique(number):
        at = number == one
        signs, values = np.sign(volts[at]), x[at]
        positive, negative = np.flatnonzero(signs > 0), np.flatnonzero(signs < 0)
        expected = np.concatenate([[0], positive, negative])
        if not np.isnan(signs[0]) or not np.array_equal(np.sort(expected), np.arange(len(signs))):
            raise UsageError(f"cycle {one:g} does not begin with a reading (v = nan) that pulses follow")
        up.append(values[np.concatenate([[positive[0] - 1], positive])] if len(positive) else values[:0])
        down.append(values[np.concatenate([[negative[0] - 1], negative])] if len(negative) else values[:0])
    if len({len(row) for row in up}) > 1 or len({len(row) for row in down}) > 1:
        raise UsageError("the cycles have different numbers of pulses; analyse those of one length together")
    return Trains(np.array(up), np.array(down))


def branch(g: ArrayLike, confidence: float = 0.95) -> Branch:
    """Fit each train; g (pulses + 1,) or (cycles, pulses + 1) in S, nan where a reading failed, 4 pulses at least.

    beta is N/A of the curves of Chen, Peng and Yu (NeuroSim, IEEE TCAD 37:3067, 2018, eqs. 1–3), for both directions
    as `labctl.models.multilevel` has them. Steps add up, so readings of one train are not independent: the interval is
    from the scatter of cycles, nan of fewer than two. Raises `MeasurementError` when a train does not move.
    """
    from scipy.stats import t

    rows = np.atleast_2d(np.asarray(g, np.float64))
    if rows.ndim != 2 or rows.shape[1] < 5 or np.isinf(rows).any():
        raise UsageError(f"g has shape {rows.shape}; give (cycles, pulses + 1) with at least 4 pulses")
    found = np.array([_fit(row) for row in rows])
    beta, start, span = found[:, :3].T
    half = float("nan")
    if len(rows) > 1:
        quantile = float(t.ppf(0.5 + level(confidence) / 2, len(rows) - 1))
        half = quantile * float(beta.std(ddof=1)) / len(rows) ** 0.5
    k = np.arange(rows.shape[1]) / (rows.shape[1] - 1)
    fitted = start[:, None] + span[:, None] * _curve(k, beta[:, None])
    deviation = rows - fitted
    steps = np.diff(deviation, axis=1)
    mean = float(beta.mean())
    return Branch(
        Estimate(mean, mean - half, mean + half), float(start.mean()), float(span.mean()),
        float(np.sqrt(np.nanmean(steps**2))), float(np.sqrt(np.nanmean(deviation**2))),
    )  # fmt: skip


def update(up: ArrayLike, down: ArrayLike, k: float = 3.0) -> Update:
    """Both directions; arguments and errors as `branch`. up must rise and down must fall.

    asymmetry: at equal parts of a train, |x_up(s) − x_down(1 − s)| of the curves normalised to 0 … 1, its maximum over
    s: 0 when the way down is the way up run backwards. states: how many intervals ± k·σ fit into what both directions
    cover, σ the noise of a step; never more than a train has readings.
    """
    rise, fall = branch(up), branch(down)
    if rise.span <= 0 or fall.span >= 0:
        raise MeasurementError(
            f"potentiation moves G by {rise.span:.3g} S and depression by {fall.span:.3g} S; up must rise, down fall"
        )
    s = np.linspace(0, 1, 1001)
    x_up, x_down = _curve(s, np.array(rise.beta.value)), 1 - _curve(s, np.array(fall.beta.value))
    asymmetry = float(np.abs(x_up - x_down[::-1]).max())
    low = max(rise.start, fall.start + fall.span)
    high = min(rise.start + rise.span, fall.start)
    sigma = max(rise.noise, fall.noise)
    least = min(rise.start, fall.start + fall.span)
    most, room = np.asarray(up).shape[-1], max(0.0, high - low)
    count = most if room >= 2 * k * sigma * (most - 1) else int(room / (2 * k * sigma) + 1e-9) + 1
    return Update(rise, fall, asymmetry, max(rise.start + rise.span, fall.start) / least, count)


def stdp(dt: ArrayLike, dg: ArrayLike, confidence: float = 0.95) -> Stdp:
    """Fit an STDP window: dt (n,) = t_post − t_pre in s, dg (n,) in S (or relative, or weight); Δt = 0 is left out.

    The exponentials of Song, Miller and Abbott (Nat. Neurosci. 3:919, 2000). Positive amplitudes are Hebbian, a side
    that goes the other way comes out negative. A side needs three points. Raises `MeasurementError` when a side does
    not determine its two numbers.
    """
    x, y = numbers("dt", dt), numbers("dg", dg)
    same_length(dt=x, dg=y)
    sides: list[Estimate] = []
    squares, count = 0.0, 0
    for sign, name in ((1.0, "Δt > 0"), (-1.0, "Δt < 0")):
        at = sign * x > 0
        if at.sum() < 3:
            raise MeasurementError(f"{int(at.sum())} points at {name}; an STDP side needs three at least")
        t, d = np.abs(x[at]), sign * y[at]
        scale, unit = float(np.abs(d).max()) or 1.0, float(t.mean())

        def miss(q: Floats, t: Floats = t, d: Floats = d, scale: float = scale, unit: float = unit) -> Floats:
            return np.asarray(q[0] * np.exp(-t / unit * np.exp(-np.clip(q[1], -30, 30))) - d / scale)

        first = float(d[np.argmin(t)] / scale) or 0.5
        (a, tau), residual = curve_fit(miss, [first, 0.0], f"the STDP side {name}", confidence)
        sides += [
            Estimate(*(q * scale for q in a)),
            Estimate(*(unit * float(np.exp(np.clip(q, -700, 700))) for q in tau)),
        ]
        squares += 0.0 if len(t) == 2 else (residual * scale) ** 2 * (len(t) - 2)
        count += len(t) - 2
    return Stdp(sides[0], sides[1], sides[2], sides[3], (squares / count) ** 0.5)


def _curve(s: Floats, beta: Floats) -> Floats:
    """(1 − e^(−βs))/(1 − e^(−β)), s itself at β = 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        bent = np.expm1(-beta * s) / np.expm1(-beta)
    return np.where(np.abs(beta) < 1e-9, s, bent)


def _fit(row: Floats) -> tuple[float, float, float]:
    ok = ~np.isnan(row)
    s, y = (np.arange(len(row)) / (len(row) - 1))[ok], row[ok]
    scale = float(np.ptp(y)) if len(y) else 0.0
    if len(y) < 5 or scale == 0:
        raise MeasurementError(f"a train of {len(y)} readings that span {scale:.3g} S has no curve to fit")

    def miss(q: Floats) -> Floats:
        return np.asarray(q[1] + q[2] * _curve(s, np.clip(q[0], -60, 60)) - (y - y[0]) / scale)

    (beta, start, span), _ = curve_fit(miss, [1.0, 0.0, float(y[-1] - y[0]) / scale or 0.5], "the curve of a train")
    return beta.value, start.value * scale + float(y[0]), span.value * scale
