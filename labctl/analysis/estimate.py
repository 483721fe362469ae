"""What analyses share: a value with its interval, and the checks of what they are given."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError

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
