"""The limits of the outputs, made once from the station: checked on the host before sending, enforced by the board."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from labctl.errors import LimitError, StationError
from labctl.quantity import si
from labctl.station import Station

NEEDED = ("v_dd", "i_syn", "v_wl", "v_bl", "v_sl")
"""What [limits] of a station must say."""
SLACK = 1e-9
"""Volts by which rounding may pass a limit; far below the converters' steps."""


@dataclass(frozen=True)
class LimitRule:
    """`pin` minus `reference` (0 V where None) stays within low … high volts, because of `why`."""

    pin: str
    reference: str | None
    low: float
    high: float
    why: str


def pin_of(bias: str) -> str:
    """The chip's pin of a bias: ``v_thr`` is VTHR."""
    return bias.replace("_", "").upper()


class Limits:
    """Every limit of a station's outputs. Raises `StationError` when the station does not say one."""

    def __init__(self, station: Station) -> None:
        missing = [name for name in NEEDED if name not in station.limits]
        if missing:
            raise StationError(f"station {station.name}: limits.{missing[0]} is missing")
        chip, most, no_low = station.chip, station.limits, -math.inf
        rules = [LimitRule("VDD", None, 0.0, most["v_dd"], "limits.v_dd of the station")]
        rules += [LimitRule(pin_of(name), "VDD", no_low, 0.0, "no bias above V_dd") for name in station.biases]
        for k, r_syn in enumerate(chip.r_syn):
            why = f"{si(most['i_syn'], 'A')} through {si(r_syn, 'Ω')}"
            rules.append(LimitRule(f"IN{k}", "VDD", no_low, 0.0, "no input above V_dd"))
            rules.append(LimitRule(f"IN{k}", "VREF", no_low, most["i_syn"] * r_syn, why))
        rules += [
            LimitRule(f"{kind.upper()}_DRIVE", None, 0.0, most[f"v_{kind}"], f"limits.v_{kind} of the station")
            for kind in ("wl", "bl", "sl")
        ]
        if "BIAS_DRIVE" in station.converters:  # lines that are not selected, of either kind
            low, name = min((most["v_bl"], "v_bl"), (most["v_sl"], "v_sl"))
            rules.append(LimitRule("BIAS_DRIVE", None, 0.0, low, f"limits.{name} of the station"))
        rules += [  # rows whose source line has a converter of its own
            LimitRule(f"SL{row}", None, 0.0, most["v_sl"], "limits.v_sl of the station")
            for row in range(chip.rows)
            if f"SL{row}" in station.converters
        ]
        self.rules = tuple(rules)
        self._of: dict[str, list[LimitRule]] = {}
        for rule in rules:
            for pin in {rule.pin, rule.reference} - {None}:
                self._of.setdefault(str(pin), []).append(rule)

    def check(self, present: Mapping[str, float], volts: Mapping[str, float]) -> None:
        """Raise `LimitError` unless all is within the limits with `volts` in place of what is `present`."""
        for pin in volts:
            for rule in self._of.get(pin, ()):
                value = self._at(rule.pin, present, volts) - self._at(rule.reference, present, volts)
                if not rule.low - SLACK <= value <= rule.high + SLACK:
                    bound = rule.low if value < rule.low else rule.high
                    what = f"{rule.pin} − {rule.reference}" if rule.reference else rule.pin
                    raise LimitError(
                        f"{what} = {si(value, 'V')} is beyond {si(bound, 'V')} ({rule.why}); nothing was applied"
                    )

    @staticmethod
    def _at(pin: str | None, present: Mapping[str, float], volts: Mapping[str, float]) -> float:
        return 0.0 if pin is None else volts.get(pin, present.get(pin, 0.0))
