"""Matrix–vector products of an array: inputs as bits, what the columns should give, and where the error comes from.

A product is a current, y_j = v·Σ_i x_i/x_max·G_ij: what the columns give when row i is driven with the fraction
x_i/x_max of v. With bit-serial inputs the digits are driven one after another and added up digitally,
y_j = Σ_b 2^b·I_bj/x_max (Shafiee et al., ISCA 2016, section III; Wan et al., Nature 608:504, 2022): the same number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.levels import effective_bits
from labctl.analysis.mvm import calibrate, repeat_noise
from labctl.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Plane(NamedTuple):
    """One pass of a bit-serial product: the rows that are open, and what the currents count."""

    weight: int
    rows: Ints


class Contribution(NamedTuple):
    """One part of the error of products: its rms (A), and the bits they would have if there were no other."""

    source: str
    rms: float
    bits: float


def bit_planes(x: Sequence[int] | Ints) -> list[Plane]:
    """One input vector (whole numbers, one a row) as passes of 0 and 1, the negative ones of weight −2^b by themselves.

    Σ weight over the planes that open row i is x_i. Passes that open no row are left out.
    """
    x = np.asarray(x, np.int64)
    planes = []
    for sign in (1, -1):
        size = np.where(np.sign(x) == sign, np.abs(x), 0)
        for bit in range(int(size.max(initial=0)).bit_length()):
            rows = np.flatnonzero(size >> bit & 1)
            if rows.size:
                planes.append(Plane(sign << bit, rows))
    return planes


def product(x: ArrayLike, g: ArrayLike, v: float, x_max: float) -> Floats:
    """v·Σ_i x_i/x_max·G_ij (A), (vectors, columns), for x (vectors, rows) and g (rows, columns) in S."""
    y: Floats = np.asarray(x, np.float64) @ np.asarray(g, np.float64) * (v / x_max)
    return y


def differential(columns: Floats) -> Floats:
    """Columns along the last axis taken two by two as G+ and G−: the first minus the second."""
    if columns.shape[-1] % 2:
        raise UsageError(f"{columns.shape[-1]} columns make no pairs of G+ and G−; give an even number")
    return columns[..., ::2] - columns[..., 1::2]


def contributions(
    measured: Floats, cells: Floats, target: Floats | None, adc: Floats, full_scale: float
) -> list[Contribution]:
    """The error of measured products, taken apart; nan (a product that could not be measured) is left out.
    Nothing is left where nothing could be measured, or where no cell conducts.

    measured: (vectors, repeats, outputs), A. cells: (maps, vectors, outputs), the products of the conductances that
    were read one by one, `maps` times. target: (vectors, outputs), those of the conductances that were asked for, None
    where nobody did. adc: (vectors, outputs), variance (A²) of the quantisation of a measured product. full_scale: A,
    for `effective_bits`. With M the mean over the repeats and C the mean over the maps:

    total             rms of measured − target (− C without targets)
    calibrated        the same after each output's gain and offset were taken out (`mvm.calibrate`), for the two numbers
                      that were fitted by √(vectors/(vectors − 2)) larger; left out below three vectors
    programming       rms of C − target
    line resistance   rms of M − C, less what noise and movement leave in these two means (σ²/n each, the standard
                      error of a mean): the drops that cells make when they conduct together; 0 where it drowns
    cells moved       standard deviation over the maps: read noise of single cells, random telegraph noise, relaxation;
                      with one map it cannot be told from line resistance and is left out
    read noise        standard deviation over the repeats, less the ADC's part; left out where nothing was repeated
    ADC               step/√12 in the range that was used (Bennett, Bell Syst. Tech. J. 27:446, 1948), summed over the
                      passes of a product as Σ weight²·step²/12
    """
    m, c = measured.mean(1), cells.mean(0)
    reference = c if target is None else target
    ok = np.isfinite(m) & np.isfinite(c) & np.isfinite(reference)
    if not (ok.any() and full_scale > 0):
        return []

    def power(values: Floats) -> float:
        return float((values[..., ok] ** 2).mean())

    def spread(values: Floats) -> float:
        return repeat_noise(values[:, ok]) ** 2 if len(values) > 1 else float("nan")

    def left() -> float:
        """Power that gain and offset leave."""
        whole = ok.all(0)
        if len(m) < 3 or not whole.any():
            return float("nan")
        fit = calibrate(m[:, whole], reference[:, whole])
        error = (each[..., whole] - fit.offset) / fit.gain - reference[:, whole]
        return float((error**2).mean()) * len(m) / (len(m) - 2)

    each = measured.transpose(1, 0, 2)
    noise, moved, quantised = spread(each), spread(cells), float(adc[ok].mean())
    expected = float(np.nan_to_num(noise / len(each)) + np.nan_to_num(moved / len(cells)))
    found = {
        "total": power(each - reference),
        "calibrated": left(),
        "programming": power(c - reference) if target is not None else float("nan"),
        "line resistance": max(power(m - c) - expected, 0.0),
        "cells moved": moved,
        "read noise": max(noise - quantised, 0.0) if len(each) > 1 else float("nan"),
        "ADC": quantised,
    }
    return [
        Contribution(source, float(np.sqrt(value)), effective_bits([np.sqrt(value)], full_scale))
        for source, value in found.items()
        if np.isfinite(value)
    ]
