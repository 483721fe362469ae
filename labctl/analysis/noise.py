"""Noise of a read current: its histogram, its spectrum and slope, the levels of random telegraph noise.

A record is (n,) samples `interval` s apart, in A (or S, or relative); all of them resolved.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import UNKNOWN, Estimate, Floats, Ints, level, line, numbers, sampling
from labctl.errors import MeasurementError, UsageError


class Histogram(NamedTuple):
    """Counts between edges, and the moments of the record."""

    edges: Floats  # (bins + 1,)
    counts: Ints  # (bins,)
    mean: float
    sigma: float
    skewness: float  # 0 for a normal distribution
    kurtosis: float  # excess: 0 for a normal distribution, towards −2 for two equal levels


class Spectrum(NamedTuple):
    """One-sided power spectral density, without its value at 0 Hz."""

    f: Floats  # (k,) Hz
    psd: Floats  # (k,) unit²/Hz
    averages: float  # segments averaged: a value scatters by about 1/√averages


def histogram(x: ArrayLike, bins: int | None = None) -> Histogram:
    """Of a record (n,), n ≥ 4. bins: None takes Freedman and Diaconis's width (2·IQR/n^⅓), 5 … 500 bins."""
    v = numbers("x", x, 4)
    low, high = float(v.min()), float(v.max())
    if bins is None:
        width = 2 * float(np.subtract(*np.percentile(v, [75, 25]))) / len(v) ** (1 / 3)
        bins = int(np.clip(np.ceil((high - low) / width), 5, 500)) if width > 0 else 5
    elif bins < 1:
        raise UsageError(f"bins = {bins}; give at least 1")
    counts, edges = np.histogram(v, bins)
    sigma = float(v.std())
    z = (v - v.mean()) / sigma if sigma > 0 else np.zeros_like(v)
    skewness, kurtosis = (float(np.mean(z**3)), float(np.mean(z**4)) - 3) if sigma > 0 else (0.0, 0.0)
    return Histogram(edges, counts.astype(np.int64), float(v.mean()), float(v.std(ddof=1)), skewness, kurtosis)


def spectrum(x: ArrayLike, interval: float, segments: int = 8) -> Spectrum:
    """Welch's periodogram (IEEE Trans. Audio Electroacoust. 15:70, 1967) of a record: Hann windows, half overlapping.

    segments: about how many windows; more average better and see less low frequency. The mean of each is taken off.
    Raises `UsageError` for fewer than 8 samples a window.
    """
    from scipy.signal import welch

    v, dt = numbers("x", x, 8), sampling(interval)
    length = 2 * len(v) // (segments + 1) if segments > 1 else len(v)
    if segments < 1 or length < 8:
        raise UsageError(f"{segments} segments of {len(v)} samples are shorter than 8 samples; take fewer")
    f, psd = welch(v, 1 / dt, window="hann", nperseg=length, detrend="constant")
    used = (len(v) - length) // (length - length // 2) + 1
    # neighbouring windows share half their samples: a correlation of 1/36 of their periodograms (Welch 1967, Hann)
    return Spectrum(np.asarray(f[1:]), np.asarray(psd[1:]), used / (1 + (used - 1) / used / 18))


def slope(found: Spectrum, low: float | None = None, high: float | None = None, confidence: float = 0.95) -> Estimate:
    """The exponent a of psd ∝ 1/f^a between two frequencies (Hz; None: all but the two lowest and the highest fifth).

    A line through ln psd averaged in equal steps of ln f, 4 an octave at most. The interval is that of a spectrum of so
    many averages (the windows correlate neighbouring frequencies by 4/9 and 1/36), or of the residuals, whichever is
    wider. 0 is white, 1 is 1/f, 2 a single slow trap or a drift. nan when fewer than 4 steps hold a value.
    """
    from scipy.special import polygamma
    from scipy.stats import norm

    first = low if low is not None else float(found.f[min(2, len(found.f) - 1)])
    last = high if high is not None else float(found.f[-1]) * 0.8
    if not 0 < first < last:
        raise UsageError(f"from {first} Hz to {last} Hz; give 0 < low < high")
    at = (found.f >= first) & (found.f <= last) & (found.psd > 0)
    if not at.any():
        return UNKNOWN
    x, y = np.log(found.f[at]), np.log(found.psd[at])
    step = np.floor((x - x[0]) / (np.log(2) / 4) + 1e-9).astype(int)
    n = np.bincount(step)
    keep = n > 0
    if keep.sum() < 4:
        return UNKNOWN
    middle = np.bincount(step, x)[keep] / n[keep]
    law = line(middle, np.bincount(step, y)[keep] / n[keep], level(confidence))
    d = middle - middle.mean()
    weight = (np.repeat(d / (d @ d), n[keep])) / np.repeat(n[keep], n[keep])  # the slope is Σ weight·y
    neighbours = 2 * (4 / 9 * float(weight[1:] @ weight[:-1]) + 1 / 36 * float(weight[2:] @ weight[:-2]))
    variance = float(polygamma(1, found.averages)) * (float(weight @ weight) + neighbours)
    half = max(float(norm.ppf(0.5 + confidence / 2)) * variance**0.5, law.t * law.var_b**0.5)
    return Estimate(-law.b, -law.b - half, -law.b + half)


def record_interval(t: ArrayLike, tolerance: float = 0.01) -> float:
    """The interval (s) of a record from its times (n,); `MeasurementError` when they are not even to `tolerance`."""
    times = numbers("t", t, 2)
    steps = np.diff(times)
    middle = float(np.median(steps))
    if not middle > 0 or np.abs(steps - middle).max() > tolerance * middle:
        raise MeasurementError(
            f"samples are {steps.min():.4g} … {steps.max():.4g} s apart; a spectrum and dwell times need even ones"
        )
    return middle
