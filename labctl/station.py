"""Stations: a TOML file that says which instruments a bench has, how they are reached and how the chip is wired.

`load_station` checks everything it can without a bench; every mistake is a `StationError` that names file, key, value.
"""

import importlib.metadata
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from labctl.errors import StationError

T = TypeVar("T")


@dataclass(frozen=True)
class ChipWiring:
    """What sits in the socket. Neurons are numbered as their IN pads; rows are word lines, columns bit lines."""

    name: str
    rows: int
    columns: int
    neurons: int
    r_syn: tuple[float, ...]  # Ω in front of each input neuron, the 10 kΩ on chip included
    id: str = ""  # of this very chip, such as "W3-D7"; with it, the doses of its cells are kept beside the data


@dataclass(frozen=True)
class Station:
    """A bench as its file describes it."""

    name: str
    board: str  # address of the board, "sim" for the simulated one
    scope: str  # address of the oscilloscope, "sim" or "loop" for the simulated one, "" for none
    dialect: str
    chip: ChipWiring
    converters: Mapping[str, int]  # pin or drive → converter of the board
    probes: Mapping[int, str]  # scope channel → node of the chip
    attenuation: Mapping[int, float]  # scope channel → probe factor
    biases: Mapping[str, float]  # bias → V, as powered up
    limits: Mapping[str, float]  # name → V or A
    simulation: Mapping[str, Any] = field(default_factory=dict)  # settings of the simulated chip
    text: str = ""  # the file itself, kept with every run
    folder: Path = Path()  # where the file lies: what names it gives to other files starts from there

    def converter(self, pin: str) -> int:
        """The converter wired to `pin`; raises `StationError`."""
        if pin not in self.converters:
            raise StationError(f"station {self.name} wires no converter to {pin}; it has {', '.join(self.converters)}")
        return self.converters[pin]

    def probe(self, node: str) -> int:
        """The scope channel that watches `node`; raises `StationError`."""
        for channel, watched in self.probes.items():
            if watched == node:
                return channel
        known = ", ".join(self.probes.values()) or "no node at all"
        raise StationError(f"station {self.name} has no scope probe on {node}; it watches {known}")


def load_station(name: str) -> Station:
    """The station in the file `name`, or the built-in one of that name; raises `StationError`."""
    path = Path(name)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StationError(f"station file {name} cannot be read ({error})") from error
        return replace(parse_station(text, name), folder=path.parent)
    built_in = _built_in()
    if name not in built_in:
        raise StationError(f"there is no station {name!r}; give a FILE.toml or one of {', '.join(sorted(built_in))}")
    return parse_station(built_in[name], name)


def parse_station(text: str, where: str) -> Station:
    """The station in a TOML text; `where` names it in errors."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StationError(f"station {where} is no TOML: {error}") from error
    top = _Section(data, where, "")
    board, scope, chip = top.section("board"), top.section("scope", {}), top.section("chip")
    rows, columns = chip.get("rows", int), chip.get("columns", int)
    neurons = chip.get("neurons", int)
    r_syn: Any = chip.get("r_syn", (int, float, list))
    resistances = tuple(float(r) for r in r_syn) if isinstance(r_syn, list) else (float(r_syn),) * neurons
    if len(resistances) != neurons or min(resistances, default=1.0) <= 0:
        raise StationError(f"station {where}: chip.r_syn needs one positive resistance, or {neurons} of them")
    station = Station(
        name=top.get("name", str),
        board=board.get("link", str),
        scope=scope.get("link", str, ""),
        dialect=scope.get("dialect", str, "keysight-infiniivision"),
        chip=ChipWiring(chip.get("name", str), rows, columns, neurons, resistances, chip.get("id", str, "")),
        converters=top.numbers("converters", int),
        probes={_channel(key, where): node for key, node in scope.table("probes", str).items()},
        attenuation={_channel(key, where): float(x) for key, x in scope.table("attenuation", (int, float)).items()},
        biases={key: float(value) for key, value in top.numbers("biases", (int, float)).items()},
        limits={key: float(value) for key, value in top.numbers("limits", (int, float)).items()},
        simulation=top.table("simulation", object),
        text=text,
    )
    top.finish()
    board.finish()
    scope.finish()
    chip.finish()
    used: dict[int, str] = {}
    for pin, converter in station.converters.items():
        if not 0 <= converter <= 254:
            raise StationError(f"station {where}: converters.{pin} = {converter}; a board has 0 … 254")
        if converter in used:
            raise StationError(f"station {where}: converter {converter} is wired to both {used[converter]} and {pin}")
        used[converter] = pin
    return station


class _Section:
    """One table of the file, that complains about what is missing, mistyped or unknown."""

    def __init__(self, data: dict[str, Any], where: str, prefix: str) -> None:
        self._data, self._where, self._prefix = dict(data), where, prefix

    def get(self, key: str, kind: type[T] | tuple[type[T], ...], default: T | None = None) -> T:
        if key not in self._data and default is not None:
            return default
        if key not in self._data:
            raise StationError(f"station {self._where}: {self._prefix}{key} is missing")
        value = self._data.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise StationError(f"station {self._where}: {self._prefix}{key} = {value!r} is of the wrong type")
        return value

    def section(self, key: str, default: dict[str, Any] | None = None) -> "_Section":
        return _Section(self.get(key, dict, default), self._where, f"{self._prefix}{key}.")

    def table(self, key: str, kind: Any) -> dict[str, Any]:
        values = self.get(key, dict, {})
        for name, value in values.items():
            if not isinstance(value, kind):
                raise StationError(
                    f"station {self._where}: {self._prefix}{key}.{name} = {value!r} is of the wrong type"
                )
        return values

    def numbers(self, key: str, kind: Any) -> dict[str, Any]:
        values = self.table(key, kind)
        if not values:
            raise StationError(f"station {self._where}: [{key}] is missing or empty")
        return values

    def finish(self) -> None:
        if self._data:
            raise StationError(f"station {self._where}: {self._prefix}{next(iter(self._data))} is not known here")


def _channel(key: str, where: str) -> int:
    if not key.isdigit():
        raise StationError(f"station {where}: scope channel {key!r} is not a number")
    return int(key)


def _built_in() -> dict[str, str]:
    found = {}
    for entry in importlib.metadata.entry_points(group="labctl.stations"):
        for item in files(entry.value).iterdir():
            if item.name.endswith(".toml"):
                found[item.name.removesuffix(".toml")] = item.read_text(encoding="utf-8")
    return found
