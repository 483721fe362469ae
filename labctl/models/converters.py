"""ADC and DAC of a matrix–vector product: mid-tread quantisers whose saturation is flagged, never hidden.

A converter of b bits has 2^b codes at whole multiples of one step around zero (bipolar, two's complement: from
-2^(b-1) to 2^(b-1) - 1) or from zero up (unipolar: 0 to 2^b - 1). Mid-tread: zero is a code, so no input gives no
output. Within range the error is at most half a step, with variance step²/12 for a busy signal (Bennett, Bell Syst.
Tech. J. 27:446, 1948).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models.crossbar import Compiled
from labctl.models.device import FloatArray


class Samples(NamedTuple):
    """What a converter read: the codes, what they stand for, and where the input lay beyond the last codes."""

    codes: NDArray[np.int64]
    values: FloatArray
    saturated: NDArray[np.bool_]


@dataclass(frozen=True)
class Converter:
    """A uniform mid-tread quantiser, ADC or DAC.

    bits: 1 … 24. full_scale: the largest magnitude, in the unit of the input (V, A), > 0: the step is
    full_scale/2^(bits-1), unipolar full_scale/(2^bits - 1). offset, gain_error: input-referred deviation of the real
    converter from its nominal codes (unit of the input, and a fraction).
    """

    bits: int
    full_scale: float
    bipolar: bool = True
    offset: float = 0.0
    gain_error: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 24 or self.bits != int(self.bits):
            raise UsageError(f"bits = {self.bits} is not offered; take a whole number from 1 to 24")
        if not (np.isfinite(self.full_scale) and self.full_scale > 0):
            raise UsageError(f"full_scale = {self.full_scale} must be finite and positive")
        if not (np.isfinite(self.offset) and np.isfinite(self.gain_error) and self.gain_error > -1):
            raise UsageError(f"offset = {self.offset}, gain_error = {self.gain_error}: finite, the gain above -1")

    @cached_property
    def step(self) -> float:
        """One least significant bit, in the unit of the input."""
        return self.full_scale / float(2 ** (self.bits - 1) if self.bipolar else 2**self.bits - 1)

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        return (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if self.bipolar else (0, 2**self.bits - 1)

    def sample(self, values: ArrayLike) -> Samples:
        """Quantise as an ADC; raises `UsageError` on nan. `values` keeps its shape.

        An input more than half a step beyond the last code reads as that code and is flagged.
        """
        x = np.asarray(values, np.float64)
        if np.isnan(x).any():
            raise UsageError("a converter cannot sample nan; a floating line has no current to convert")
        low, high = self.limits
        ideal = np.rint((x * (1 + self.gain_error) + self.offset) / self.step)
        saturated = (ideal < low) | (ideal > high)
        codes = np.clip(ideal, low, high).astype(np.int64)
        return Samples(codes, codes.astype(np.float64) * self.step, saturated)

    def drive(self, values: ArrayLike) -> FloatArray:
        """The levels that a DAC puts out for wanted `values`; raises `UsageError` beyond its range."""
        asked = np.asarray(values, np.float64)
        low, high = self.limits
        codes = np.rint(asked / self.step)
        if not ((codes >= low) & (codes <= high)).all():
            bad = asked[~((codes >= low) & (codes <= high))].flat[0]
            raise UsageError(
                f"a level of {bad:g} is outside the converter's {low * self.step:g} … {high * self.step:g};"
                " scale the inputs"
            )
        out: FloatArray = codes * self.step * (1 + self.gain_error) + self.offset
        return out


@dataclass(frozen=True)
class MixedSignalProduct:
    """A product as a board makes it: inputs through `dac` (V), a compiled crossbar, currents through `adc` (A)."""

    array: Compiled
    dac: Converter
    adc: Converter

    def __call__(self, v_rows: ArrayLike) -> Samples:
        """Sampled column currents, (n,) or (batch, n), for wanted row voltages (V), (m,) or (batch, m)."""
        return self.adc.sample(self.array(self.dac.drive(v_rows)))

    @cached_property
    def bound(self) -> FloatArray:
        """Largest error of each column's current (A), (n,), while nothing saturates and converters have no deviation.

        Half a step of the ADC, half a step of the DAC on every row, and what `array.error` says of full-scale inputs.
        """
        column = np.abs(self.array.matrix.astype(np.float64)).sum(0)
        bound: FloatArray = self.adc.step / 2 + column * (self.dac.step / 2 + self.array.error * self.dac.full_scale)
        return bound
