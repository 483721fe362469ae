"""What [simulation] in a station file may say about the chip, checked, and the chip's array as it says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from labctl.errors import StationError
from labctl.models.effects import Defects
from labctl.station import Station

Faulty = float | tuple[tuple[int, int], ...]
"""Cells, each [row, column]; or the fraction of all cells that it happens to, drawn by the seed."""
Lines = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """What [simulation] in a station file may say."""

    formed: bool = True
    mismatch: float = 0.0
    temperature: float = 300.0
    line_resistance: float = 0.0  # Ω a segment of bit and source lines
    pace: Literal["virtual", "real"] = "virtual"
    stuck: Faulty = ()  # cells that stay as they are
    shorted: Faulty = ()  # … that are a short
    never_forming: Faulty = ()  # … that stay pristine
    open: Faulty = ()  # … that carry no current
    open_word_lines: Lines = ()  # lines broken between driver and array: a gate without its driver stays at 0 V,
    open_bit_lines: Lines = ()  # the others float
    open_source_lines: Lines = ()
    stuck_low: Lines = ()  # input neurons whose output stays at 0 V
    stuck_high: Lines = ()  # … stays at V_dd
    silent: Lines = ()  # … whose comparator never fires

    @classmethod
    def of(cls, station: Station) -> "Settings":
        """The settings of a station; raises `StationError` for what is not known, mistyped or not there."""
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for name, value in station.simulation.items():
            where = f"station {station.name}: simulation.{name}"
            if name not in hints:
                raise StationError(f"{where} is not known; there are {', '.join(hints)}")
            values[name] = _value(where, hints[name], value)
        settings = cls(**values)
        settings._check(station)
        return settings

    def _check(self, station: Station) -> None:
        """Every line, cell and neuron named must be there."""
        chip = station.chip
        counts = {"open_bit_lines": chip.columns} | dict.fromkeys(("open_word_lines", "open_source_lines"), chip.rows)
        counts |= dict.fromkeys(("stuck_low", "stuck_high", "silent"), chip.neurons)
        for name, count in counts.items():
            for line in getattr(self, name):
                if not 0 <= line < count:
                    raise StationError(
                        f"station {station.name}: simulation.{name} names {line}, not there; there are 0 … {count - 1}"
                    )
        for name in FAULTS:
            faulty = getattr(self, name)
            for row, column in () if isinstance(faulty, float) else faulty:
                if not (0 <= row < chip.rows and 0 <= column < chip.columns):
                    raise StationError(
                        f"station {station.name}: simulation.{name} names cell [{row}, {column}], not there; "
                        f"the chip has {chip.rows} rows and {chip.columns} columns"
                    )

    def defects(self, columns: int) -> Defects:
        """The faulty cells, of an array with so many columns; raises `ParameterError` for impossible fractions."""
        chosen: dict[str, Any] = {}
        for name in FAULTS:
            faulty = getattr(self, name)
            if isinstance(faulty, float):
                chosen[name] = faulty
            else:
                chosen[f"{name}_cells"] = [row * columns + column for row, column in faulty]
        return Defects(**chosen)


FAULTS = ("stuck", "shorted", "never_forming", "open")


def _value(where: str, hint: Any, value: Any) -> Any:
    """A value of the file as the type `hint`; raises `StationError`."""
    number = type(value) in (int, float)
    if hint is float and number:
        return float(value)
    if hint in (bool, str) and type(value) is hint:
        return value
    if get_args(hint) and value in get_args(hint):
        return value
    if hint == Lines and type(value) is list and all(type(item) is int for item in value):
        return tuple(value)
    if hint == Faulty:
        if number and 0 <= value <= 1:
            return float(value)
        pairs = type(value) is list and all(
            type(item) is list and len(item) == 2 and all(type(k) is int for k in item) for item in value
        )
        if pairs:
            return tuple(tuple(item) for item in value)
    raise StationError(f"{where} = {value!r} is not {_WANTED.get(hint) or ' or '.join(map(str, get_args(hint)))}")


_WANTED: Mapping[Any, str] = {
    bool: "true or false",
    float: "a number",
    str: "a text",
    Lines: "a list of line or neuron numbers, such as [0, 3]",
    Faulty: "a list of cells [[row, column], …] or a fraction from 0 to 1",
}
