"""A number is declared once, with its unit, limits and meaning; everything else derives from that.

`Q` stands in an annotation: ``v_thr: Annotated[float, Q("V", 0.2, 3.3, "spike threshold")]``.
"""

import math
import re
from dataclasses import dataclass

from labctl.errors import ParameterError

_PREFIXES = {
    "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3,
    "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
}  # fmt: skip
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*")


@dataclass(frozen=True)
class Q:
    """A quantity: SI unit ("" for a pure number), inclusive limits, and what it means."""

    unit: str
    low: float = -math.inf
    high: float = math.inf
    meaning: str = ""

    def check(self, name: str, value: float) -> None:
        """Raise `ParameterError` unless `value` is finite and within the limits."""
        if not math.isfinite(value):
            raise ParameterError(f"{name} = {value} is not a finite number; give a value in {self.range()}")
        if not self.low <= value <= self.high:
            side, limit = ("below", self.low) if value < self.low else ("above", self.high)
            raise ParameterError(
                f"{name} = {si(value, self.unit)} is {side} the limit of {si(limit, self.unit)}"
                f" ({self.meaning or 'declared limit'}); choose a value in {self.range()}"
            )

    def range(self) -> str:
        """The limits as a person reads them, such as ``0 A … 200 µA``."""
        if math.isinf(self.low) and math.isinf(self.high):
            return f"any value in {self.unit}" if self.unit else "any value"
        if math.isinf(self.high):
            return f"≥ {si(self.low, self.unit)}"
        if math.isinf(self.low):
            return f"≤ {si(self.high, self.unit)}"
        return f"{si(self.low, self.unit)} … {si(self.high, self.unit)}"


def si(value: float, unit: str = "", digits: int = 6) -> str:
    """`value` with an SI prefix, as ``200 µA``; pure numbers and non-finite values stay plain."""
    if not unit or not math.isfinite(value) or value == 0:
        return f"{value:.{digits}g} {unit}".strip()
    exponent = min(12, max(-15, 3 * math.floor(math.log10(abs(value)) / 3 + 1e-12)))
    mantissa = f"{value / 10.0**exponent:.{digits}g}"
    prefix = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}[exponent]
    return f"{mantissa} {prefix}{unit}"


def parse(text: str, unit: str = "") -> float:
    """A number with an optional SI prefix and unit: ``10u``, ``1.5``, ``50 mV``.

    Raises `ParameterError` when `text` is none.
    """
    match = _NUMBER.fullmatch(text)
    if match:
        suffix = match[2]
        for candidate in (suffix, suffix.removesuffix(unit) if unit else suffix):
            if candidate in _PREFIXES:
                # one decimal literal rounds once: "0.1m" is exactly 0.1e-3, not 0.1 * 1e-3
                scale = _PREFIXES[candidate]
                number = match[1]
                if "e" in number.lower() or scale == 1.0:
                    return float(number) * scale
                return float(f"{number}e{round(math.log10(scale))}")
    raise ParameterError(f"{text!r} is not a number in {unit or 'plain units'}; write for instance 10u, 1.5 or 50m")


def parse_list(text: str, unit: str = "") -> list[float]:
    """Commas and ranges ``start:stop:step`` (both ends included): ``0:1.5:50m`` or ``10u,200u``."""
    values: list[float] = []
    for part in text.split(","):
        bounds = [parse(piece, unit) for piece in part.split(":")]
        if len(bounds) == 1:
            values += bounds
        elif len(bounds) == 3:
            values += inclusive(*bounds)
        else:
            raise ParameterError(f"{part!r} is not a range; write start:stop:step, as in 0:1.5:50m")
    return values


def inclusive(start: float, stop: float, step: float) -> list[float]:
    """The ramp from `start` to `stop`, both ends included exactly; `step` may have either sign."""
    if step == 0 or not all(map(math.isfinite, (start, stop, step))):
        raise ParameterError(f"step = {step} between {start} and {stop} makes no ramp; give a finite step, not 0")
    n = abs((stop - start) / step)
    if n > 10_000_000:
        raise ParameterError(f"{start}:{stop}:{step} has {n:.3g} points; the limit is 10 million, take a larger step")
    whole = round(n) if abs(n - round(n)) < 1e-6 else math.floor(n)
    step = math.copysign(step, stop - start)
    values = [start + i * step for i in range(whole + 1)]
    if abs(n - whole) < 1e-6:
        values[-1] = stop
    elif whole < n:
        values.append(stop)
    return values
