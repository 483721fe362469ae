"""What analyses share: a value with its interval, and the checks of what they are given."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import MeasurementError, UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Estimate(NamedTuple):
    """A number and the interval that covers the truth with the stated confidence; nan where the data do not tell."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} … {self.high:.4g})"


class Estimates(NamedTuple):
    """Several of them, each (n,)."""

    value: Floats
    low: Floats
    high: Floats


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


def numbers(name: str, values: ArrayLike, least: int = 1, missing: bool = False) -> Floats:
    """(n,) finite floats, at least `least` of them; nan too where `missing` is allowed. Raises `UsageError`."""
    try:
        x = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} is not a list of numbers ({error})") from error
    if x.ndim != 1 or len(x) < least:
        raise UsageError(f"{name} has shape {x.shape}; give a list of at least {least} numbers")
    bad = np.isinf(x) if missing else ~np.isfinite(x)
    if bad.any():
        k = int(np.argmax(bad))
        raise UsageError(f"{name}[{k}] = {x[k]}; leave out readings that are not finite numbers")
    return x


def positive(name: str, values: ArrayLike, least: int = 1) -> Floats:
    """(n,) finite floats > 0. Raises `UsageError`."""
    x = numbers(name, values, least)
    if x.min() <= 0:
        k = int(np.argmin(x))
        raise UsageError(f"{name}[{k}] = {x[k]:g} must be > 0")
    return x


def same_length(**lists: NDArray[np.generic]) -> None:
    """Raise `UsageError` unless all are of one length."""
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError("lists differ in length: " + ", ".join(f"{name} {n}" for name, n in lengths.items()))


def level(confidence: float) -> float:
    """`confidence` if it lies between 0 and 1, else `UsageError`."""
    if not 0 < confidence < 1:
        raise UsageError(f"confidence = {confidence} must be between 0 and 1, such as 0.95")
    return confidence


def sampling(interval: float) -> float:
    """The time between samples (s) if it is finite and > 0, else `UsageError`."""
    if not (np.isfinite(interval) and interval > 0):
        raise UsageError(f"interval = {interval} s between samples; give a time > 0 s")
    return interval


def groups(name: str, labels: ArrayLike) -> tuple[NDArray[np.generic], Ints]:
    """The distinct labels in order of value, and the number of each row's. Labels: (n,), or (n, k) for k columns."""
    x = np.asarray(labels)
    if x.ndim not in (1, 2) or not x.size:
        raise UsageError(f"{name} has shape {x.shape}; give one label a row, or a row of labels")
    names, which = np.unique(x, axis=0, return_inverse=True)
    return names, np.asarray(which, np.int64).reshape(-1)


def proportion(wrong: ArrayLike, total: ArrayLike, confidence: float = 0.95) -> Estimates:
    """`wrong` out of `total` with exact binomial intervals (Clopper and Pearson, Biometrika 26:404, 1934), each (n,).

    nan where the total is 0.
    """
    from scipy.stats import beta

    k, n = np.asarray(wrong, np.float64), np.asarray(total, np.float64)
    tail = (1 - level(confidence)) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        value = k / n
        low = np.where(k > 0, beta.ppf(tail, k, n - k + 1), 0.0)
        high = np.where(k < n, beta.ppf(1 - tail, k + 1, n - k), 1.0)
    known = n > 0
    return Estimates(*(np.where(known, x, np.nan) for x in (value, low, high)))


def pivot(cell: ArrayLike, step: ArrayLike, values: ArrayLike) -> Floats:
    """(cells, steps) out of a table with one row a cell and step (scan, cycle, pulse); nan where there is no row.

    cell: (n,) or (n, k) labels; step: (n,); values: (n,). Both axes in order of value. Raises `UsageError` for a cell
    that comes twice at one step.
    """
    x = numbers("values", values, missing=True)
    (cells, row), (steps, column) = groups("cell", cell), groups("step", step)
    same_length(values=x, cell=row, step=column)
    out = np.full((len(cells), len(steps)), np.nan)
    if len(np.unique(row * len(steps) + column)) < len(x):
        raise UsageError("a cell comes twice at one step; give one row a cell and step")
    out[row, column] = x
    return out


class Line(NamedTuple):
    """y = a + b·(x − centre) by least squares, with the covariance that its intervals need."""

    centre: float
    a: float
    b: float
    var_a: float  # of a; a and b are uncorrelated about the centre
    var_b: float
    t: float  # Student's quantile
    residual: float  # standard deviation of the residuals

    @property
    def slope(self) -> Estimate:
        """b with its interval."""
        half = self.t * self.var_b**0.5
        return Estimate(self.b, self.b - half, self.b + half)

    def at(self, x: float) -> Estimate:
        """y there, with the interval of the line (not of a new point)."""
        d = x - self.centre
        half = self.t * (self.var_a + d * d * self.var_b) ** 0.5
        y = self.a + self.b * d
        return Estimate(y, y - half, y + half)

    def reaches(self, y: float) -> Estimate:
        """The x at which the line reaches y; Fieller's interval (J. R. Stat. Soc. B 16:175, 1954).

        An end is ∓inf where the slope's sign is not certain; nan where the line is level.
        """
        if self.b == 0:
            return UNKNOWN
        d = (y - self.a) / self.b
        q = self.t**2
        lead = self.b**2 - q * self.var_b
        if not lead > 0:
            return Estimate(self.centre + d, -np.inf, np.inf)
        middle = self.b * (y - self.a) / lead
        root = max(0.0, middle**2 - ((y - self.a) ** 2 - q * self.var_a) / lead) ** 0.5
        return Estimate(self.centre + d, self.centre + middle - root, self.centre + middle + root)


def line(x: Floats, y: Floats, confidence: float = 0.95) -> Line:
    """The line through points (n,), n ≥ 2 and x not all equal; with two points the intervals are nan."""
    from scipy.stats import t

    centre, n = float(x.mean()), len(x)
    d = x - centre
    sxx = float(d @ d)
    if n < 2 or sxx == 0:
        raise UsageError(f"{n} points at {len(np.unique(x))} places make no line; give at least two places")
    b = float(d @ y) / sxx
    a = float(y.mean())
    left = n - 2
    variance = float(np.sum((y - a - b * d) ** 2)) / left if left else float("nan")
    quantile = float(t.ppf(0.5 + level(confidence) / 2, left)) if left else float("nan")
    return Line(centre, a, b, variance / n, variance / sxx, quantile, variance**0.5)


def curve_fit(
    function: Callable[[Floats], Floats], start: Sequence[float], what: str, confidence: float = 0.95
) -> tuple[list[Estimate], float]:
    """Least squares of residuals `function(parameters)`; each parameter's interval from the curvature at the minimum.

    Also the residuals' standard deviation. Raises `MeasurementError` when the fit does not end or does not tell.
    """
    from scipy.optimize import least_squares
    from scipy.stats import t

    best = least_squares(function, start, x_scale="jac", max_nfev=2000)
    left = len(best.fun) - len(start)
    if not best.success or left < 0:
        raise MeasurementError(f"{what} does not fit {len(best.fun)} points ({best.message})")
    variance = float(best.fun @ best.fun) / left if left else float("nan")
    jacobian = np.asarray(best.jac, np.float64)
    normal = jacobian.T @ jacobian
    if np.linalg.cond(normal / np.sqrt(np.outer(np.diag(normal), np.diag(normal)) + 1e-300)) > 1e12:
        raise MeasurementError(f"the points do not determine {what}; measure over a longer range")
    half = np.sqrt(np.diag(np.linalg.inv(normal)) * variance)
    half = half * (float(t.ppf(0.5 + level(confidence) / 2, left)) if left else float("nan"))
    found = [Estimate(float(v), float(v - h), float(v + h)) for v, h in zip(best.x, half, strict=True)]
    return found, variance**0.5
