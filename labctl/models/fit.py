"""How well a fitted model repeats recorded data: quantiles, autocorrelation, correlations, each with its interval.

Numerics only: arrays in, numbers out; what reads recorded runs stands elsewhere. The intervals are those of the
recorded data (95 %), from the scatter of its devices: cycles of one device are not independent, devices are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from labctl.models.device import FloatArray

FEATURES = ("r_hrs", "v_set", "r_lrs", "v_reset")
PROBABILITIES = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
LAGS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50])
_Z = 1.96


@dataclass(frozen=True)
class Comparison:
    """One statistic: recorded, its 95 % interval (low, high; nan with one device), and the model's value."""

    recorded: FloatArray
    low: FloatArray
    high: FloatArray
    model: FloatArray

    def inside(self) -> NDArray[np.bool_]:
        """Where the model lies within the interval."""
        return np.asarray((self.model >= self.low) & (self.model <= self.high))


@dataclass(frozen=True)
class Goodness:
    """Recorded features against features that the fitted model generates.

    quantiles: (4, 9) at `PROBABILITIES` over all devices and cycles, in Ω and V. acf: (4, lags) at `LAGS` (those not
    longer than a third of the record), the mean over devices. within: (4, 4) correlation of the features within a
    device, mean over devices. devices: (4, 4) rank correlation of the devices' medians. For r_hrs the logarithm is
    taken in acf and within.
    """

    quantiles: Comparison
    acf: Comparison
    within: Comparison
    devices: Comparison

    def worst(self) -> dict[str, float]:
        """Largest deviation: of a quantile (relative), of an autocorrelation at lags 1 … 10, of a correlation."""
        acf = np.abs(self.acf.model - self.acf.recorded)[:, LAGS[: self.acf.model.shape[1]] <= 10]
        return {
            "quantiles": float(np.abs(self.quantiles.model / self.quantiles.recorded - 1).max()),
            "acf": float(acf.max()) if acf.size else float("nan"),
            "within": float(np.abs(self.within.model - self.within.recorded).max()),
            "devices": float(np.abs(self.devices.model - self.devices.recorded).max()),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for a file."""
        parts = ("quantiles", "acf", "within", "devices")
        return {k: {n: a.tolist() for n, a in vars(getattr(self, k)).items()} for k in parts}

    def __str__(self) -> str:
        """Tables to read: recorded, its 95 % interval, the model's value, and * where that lies outside."""
        lines = _table("quantiles", [f"{p:.0%}" for p in PROBABILITIES], self.quantiles, ("Ω", "V", "Ω", "V"))
        lags = LAGS[: self.acf.model.shape[1]]
        if lags.size:
            lines += _table("autocorrelation at lag", [str(k) for k in lags], self.acf)
        for title, part in (("within a device", self.within), ("between devices' medians", self.devices)):
            if np.isfinite(part.recorded).all():
                lines.append(f"correlation {title}: recorded (95 % interval) model")
                for f, g in zip(*np.triu_indices(4, 1), strict=True):
                    one = [float(x[f, g]) for x in (part.recorded, part.low, part.high, part.model)]
                    mark = "" if np.isnan(one[1]) or one[1] <= one[3] <= one[2] else " *"
                    name = f"{FEATURES[f]} – {FEATURES[g]}"
                    lines.append(f"  {name:18} {one[0]:6.3f} ({one[1]:6.3f} … {one[2]:6.3f}) {one[3]:6.3f}{mark}")
        worst = ", ".join(f"{name} {value:.3g}" for name, value in self.worst().items() if np.isfinite(value))
        return "\n".join([*lines, f"largest deviations: {worst}; * outside the interval of what was recorded"])


def _table(title: str, heads: list[str], part: Comparison, units: tuple[str, ...] = ("",) * 4) -> list[str]:
    lines = [f"{title:24}" + "".join(f"{head:>8} " for head in heads)]
    outside = ~part.inside() & np.isfinite(part.low)
    for f, (name, unit) in enumerate(zip(FEATURES, units, strict=True)):
        for kind, label in (("recorded", "recorded"), ("low", "95 % from"), ("high", "to"), ("model", "model")):
            row = getattr(part, kind)[f]
            if np.isnan(row).all():
                continue
            marks = outside[f] if kind == "model" else np.zeros(len(row), bool)
            head = f"{name} ({unit})" if unit else name
            lines.append(
                f"  {head if kind == 'recorded' else '':12}{label:10}"
                + "".join(f"{_short(x):>8}{'*' if mark else ' '}" for x, mark in zip(row, marks, strict=True))
            )
    return lines


def _short(x: float) -> str:
    return f"{x / 1e3:.4g}k" if abs(x) >= 1e3 else f"{x:.3f}"


def goodness(recorded: FloatArray, model: FloatArray) -> Goodness:
    """Compare features (devices, cycles, 4) in Ω and V; both need the same number of cycles for the same bias."""
    y = [np.concatenate([np.log10(a[..., :1]), a[..., 1:]], axis=2) for a in (recorded, model)]
    lags = LAGS[recorded.shape[1] // 3 >= LAGS]
    acfs = [autocorrelation(a, lags) for a in y]
    within = [_within(a) for a in y]
    medians = [np.median(a, axis=1) for a in y]
    return Goodness(
        quantiles=_quantiles(recorded, model),
        acf=_means(acfs[0], acfs[1]),
        within=_means(within[0], within[1]),
        devices=_correlations(medians[0], medians[1]),
    )


def autocorrelation(y: FloatArray, lags: NDArray[np.int_]) -> FloatArray:
    """(devices, 4, lags) sample autocorrelation over cycles of y (devices, cycles, 4), each device's mean taken out."""
    n = y.shape[1]
    size = 1 << (2 * n - 1).bit_length()
    x = np.swapaxes(y - y.mean(axis=1, keepdims=True), 1, 2)
    power = np.abs(np.fft.rfft(x, size)) ** 2
    covariance = np.fft.irfft(power, size)[..., : int(lags.max(initial=0)) + 1]
    return np.asarray(covariance[..., lags] / covariance[..., :1])


def _within(y: FloatArray) -> FloatArray:
    """(devices, 4, 4) correlation of the features over the cycles of each device."""
    x = y - y.mean(axis=1, keepdims=True)
    covariance = np.einsum("dti,dtj->dij", x, x)
    scale = np.sqrt(np.einsum("dii->di", covariance))
    return np.asarray(covariance / scale[:, :, None] / scale[:, None, :])


def _means(recorded: FloatArray, model: FloatArray) -> Comparison:
    """Means over devices."""
    mean, devices = recorded.mean(axis=0), len(recorded)
    half = _Z * recorded.std(axis=0, ddof=1) / devices**0.5 if devices > 1 else np.full(mean.shape, np.nan)
    return Comparison(mean, mean - half, mean + half, model.mean(axis=0))


def _quantiles(recorded: FloatArray, model: FloatArray) -> Comparison:
    """Pooled quantiles; the interval is where the probability's own error, from device to device, leads."""
    out = []
    for f in range(4):
        x = recorded[..., f]
        q = np.quantile(x, PROBABILITIES)
        if len(x) > 1:
            below = (x[..., None] <= q).mean(axis=1)
            half = _Z * below.std(axis=0, ddof=1) / len(x) ** 0.5
            ends = [np.quantile(x, np.clip(PROBABILITIES + s * half, 0.0, 1.0)) for s in (-1.0, 1.0)]
        else:
            ends = [np.full(q.shape, np.nan)] * 2
        out.append((q, *ends, np.quantile(model[..., f], PROBABILITIES)))
    return Comparison(*(np.array(part) for part in zip(*out, strict=True)))


def _correlations(recorded: FloatArray, model: FloatArray) -> Comparison:
    """Rank correlations of the devices' medians: outliers do not decide them."""
    if len(recorded) < 4:
        nan = np.full((4, 4), np.nan)
        return Comparison(nan, nan, nan, nan)
    with np.errstate(invalid="ignore", divide="ignore"):  # nan where all devices are alike
        found, wanted = (np.asarray(np.corrcoef(rankdata(a, axis=0).T)) for a in (recorded, model))
    z = np.arctanh(np.clip(found, -0.999999, 0.999999))
    half = _Z * 1.03 / (len(recorded) - 3) ** 0.5  # Fieller et al. (1957) for rank correlations
    return Comparison(found, np.tanh(z - half), np.tanh(z + half), wanted)
