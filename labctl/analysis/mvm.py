"""Errors of a matrix–vector product: effective bits, and what each cause contributes.

Products are arrays of one shape, (vectors, columns) say, in one unit (currents, or decoded y). Errors of independent
causes add in quadrature; what does not is reported, not hidden: line resistance, for one, takes from every product and
correlates with programming errors. Here causes are switched on one after the other, as a model can; what one recorded
`mvm` run tells of them is `labctl.analysis.products.contributions`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.estimate import Floats
from labctl.analysis.levels import effective_bits
from labctl.errors import UsageError


class Budget(NamedTuple):
    """What makes the error of a product. rms in the unit of the products."""

    names: tuple[str, ...]
    rms: Floats  # (causes,) of each alone
    bits: Floats  # (causes,) effective bits if it were alone
    total: float  # rms of the whole error
    total_bits: float
    common: float  # (total² − Σ rms²)/total²: the part that is not the sum of squares; 0 for independent causes
    full_scale: float

    def __str__(self) -> str:
        lines = [f"{'cause':24}{'rms/full scale':>15}{'bits':>7}{'of total²':>11}"]
        for name, rms, bits in zip(self.names, self.rms, self.bits, strict=True):
            share = rms**2 / self.total**2 if self.total else 0.0
            lines.append(f"{name:24}{rms / self.full_scale:15.3e}{bits:7.2f}{share:11.1%}")
        lines.append(
            f"{'together':24}{self.total / self.full_scale:15.3e}{self.total_bits:7.2f}{1 - self.common:11.1%}"
        )
        return "\n".join(lines)


class Calibrated(NamedTuple):
    """Products after each column's gain and offset were taken out."""

    y: Floats  # (vectors, columns)
    gain: Floats  # (columns,) measured = gain·reference + offset
    offset: Floats  # (columns,)


def product_bits(y: ArrayLike, reference: ArrayLike, full_scale: float | None = None) -> float:
    """Effective bits of products against their reference: log2(full_scale/(rms(y − reference)·√12)).

    full_scale: in the unit of y; None: largest minus smallest reference. Raises `UsageError` for shapes that differ,
    nan, or a reference that does not vary.
    """
    measured, true = _pair(y, reference)
    return effective_bits(measured - true, _full_scale(true, full_scale))


def stages(reference: ArrayLike, outputs: Mapping[str, ArrayLike], full_scale: float | None = None) -> Budget:
    """Contributions from products with one cause after the other switched on, in the order of the physics.

    outputs: name of the cause → the products with it and all before it, for instance levels, programming, lines, read
    noise, ADC; the last is the real product. Each contribution is the change that its cause makes. Raises as
    `product_bits`.
    """
    if not outputs:
        raise UsageError("no output is given; name at least one cause with its products")
    before = true = np.asarray(reference, np.float64)
    changes = []
    for y in outputs.values():
        now, _ = _pair(y, true)
        changes.append(_rms(now - before))
        before = now
    return _budget(tuple(outputs), changes, _rms(before - true), _full_scale(true, full_scale))


def repeat_noise(y: ArrayLike) -> float:
    """rms noise of one product from products repeated over the first axis, (repeats, …), two at least."""
    x = np.asarray(y, np.float64)
    if x.ndim < 2 or len(x) < 2 or not np.isfinite(x).all():
        raise UsageError(f"y has shape {x.shape}; give at least two repeats (repeats, …) of finite products")
    return float(np.sqrt(np.mean(x.var(axis=0, ddof=1))))


def calibrate(y: ArrayLike, reference: ArrayLike) -> Calibrated:
    """Take out each column's gain and offset (least squares): what a digital correction after the ADC can do.

    y, reference: (vectors, columns), more than two vectors. A column whose reference does not vary keeps gain 1.
    """
    measured, true = _pair(y, reference)
    if measured.ndim != 2 or len(measured) < 3:
        raise UsageError(f"y has shape {measured.shape}; give (vectors, columns) with three vectors at least")
    d = true - true.mean(0)
    square = (d**2).sum(0)
    gain = np.where(square > 0, (d * measured).sum(0) / np.where(square > 0, square, 1.0), 1.0)
    offset = measured.mean(0) - gain * true.mean(0)
    if (gain == 0).any():
        raise UsageError(
            f"column {int(np.argmin(np.abs(gain)))} does not follow its input at all: nothing to calibrate"
        )
    return Calibrated((measured - offset) / gain, gain, offset)


def _budget(names: tuple[str, ...], rms: list[float], total: float, full_scale: float) -> Budget:
    bits = np.array([effective_bits([x], full_scale) if np.isfinite(x) else np.nan for x in rms])
    squares = sum(x * x for x in rms)
    common = 1 - squares / total**2 if total else 0.0
    return Budget(names, np.array(rms), bits, total, effective_bits([total], full_scale), common, full_scale)


def _pair(y: ArrayLike, reference: ArrayLike) -> tuple[Floats, Floats]:
    measured, true = np.asarray(y, np.float64), np.asarray(reference, np.float64)
    if measured.shape != true.shape or not measured.size:
        raise UsageError(f"products of shape {measured.shape} against a reference of shape {true.shape}")
    if not (np.isfinite(measured).all() and np.isfinite(true).all()):
        raise UsageError("a product is not a finite number; leave out vectors whose readings failed or saturated")
    return measured, true


def _full_scale(reference: Floats, full_scale: float | None) -> float:
    value = float(np.ptp(reference)) if full_scale is None else full_scale
    if not (np.isfinite(value) and value > 0):
        raise UsageError(f"full_scale = {value}; give a range > 0, or references that vary")
    return value


def _rms(x: Floats) -> float:
    return float(np.sqrt(np.mean(x**2)))
