"""What [simulation] in a station file may say about the chip, checked, and the chip's array as it says."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

import numpy as np

from labctl.errors import LabctlError, StationError, UsageError
from labctl.models.array import Array1T1R
from labctl.models.effects import Defects, Effects
from labctl.models.filament import FilamentArray
from labctl.models.named import Cells, build
from labctl.models.neuron_params import Biases, LifParams, broadcast
from labctl.models.spice import filament_netlist, neurons_netlist
from labctl.models.state_file import StateFile
from labctl.station import Station

Faulty = float | tuple[tuple[int, int], ...]
"""Cells, each [row, column]; or the fraction of all cells that it happens to, drawn by the seed."""
Lines = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """What [simulation] in a station file may say."""

    model: str = "filament"  # of the cells; see `labctl.models.named`
    parameters: str = ""  # a parameter file of that model, as `labctl fit` writes it
    state: str = ""  # a file that keeps the array from run to run
    effects: Mapping[str, Any] = field(default_factory=dict)  # strengths, see `labctl.models.effects.Effects`
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

    def cells(self, station: Station) -> Cells:
        """What the station says about its cells; raises `LabctlError`."""
        chosen: dict[str, Any] = {}
        for name in FAULTS:
            faulty = getattr(self, name)
            if isinstance(faulty, float):
                chosen[name] = faulty
            else:
                chosen[f"{name}_cells"] = tuple(row * station.chip.columns + column for row, column in faulty)
        path, colon, inner = self.model.rpartition(":")
        known = [item.name for item in fields(Effects)]
        if unknown := sorted(set(self.effects) - set(known)):
            raise StationError(f"simulation.effects.{unknown[0]} is not known; there are {', '.join(known)}")
        return Cells(
            model=f"{station.folder / path}:{inner}" if colon else self.model,
            parameters=station.folder / self.parameters if self.parameters else None,
            formed=self.formed,
            temperature=self.temperature,
            effects=Effects(**self.effects) if self.effects else None,
            defects=Defects(**chosen),
        )


class SimulatedArray:
    """The array of a station's simulated chip, kept in its state file if it names one.

    seed: of a chip that no file keeps yet; a chip that was kept goes on with its own. Raises `StationError`.
    """

    def __init__(self, station: Station, settings: Settings, seed: int) -> None:
        wiring = station.chip
        self._file: StateFile | None = None
        try:
            cells = settings.cells(station)
            saved = None
            if settings.state:
                parameters = (
                    hashlib.sha256(cells.parameters.read_bytes()).hexdigest() if cells.parameters else "default"
                )
                about = {
                    "model": settings.model,
                    "parameters": parameters,
                    "shape": f"{wiring.rows} × {wiring.columns}",
                }
                self._file = StateFile(station.folder / settings.state, about)
                saved = self._file.load()
            self.seed = seed if saved is None else int(saved.pop("seed"))
            device = build(cells, (wiring.rows, wiring.columns), self.seed)
            additive = getattr(device, "additive", True)
            self.array = Array1T1R(
                device, line_resistance=settings.line_resistance, **({} if additive else {"resolution": np.inf})
            )
            if saved is not None:
                faults = self.array.state().get("device.codes")
                if faults is not None and not np.array_equal(faults, saved.get("device.codes", faults)):
                    raise StationError(
                        f"{self._file.path} keeps a chip with other faulty cells than the station names; "  # type: ignore[union-attr]
                        f"name another file for this chip"
                    )
                self.array.restore(saved)
        except OSError as error:
            raise StationError(f"station {station.name}: simulation.parameters: {error}") from error
        except (LabctlError, KeyError) as error:
            raise StationError(f"station {station.name}: {error}") from error

    def keep(self) -> None:
        """Save the array as it is now, where the station names a file. Raises `StorageError`."""
        if self._file is not None:
            self._file.save(self.array.state() | {"seed": np.array(self.seed)})


FAULTS = ("stuck", "shorted", "never_forming", "open")


def _value(where: str, hint: Any, value: Any) -> Any:
    """A value of the file as the type `hint`; raises `StationError`."""
    number = type(value) in (int, float)
    if hint is float and number:
        return float(value)
    if (hint in (bool, str) and type(value) is hint) or (hint == Mapping[str, Any] and type(value) is dict):
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
    Mapping[str, Any]: "a table",
    Lines: "a list of line or neuron numbers, such as [0, 3]",
    Faulty: "a list of cells [[row, column], …] or a fraction from 0 to 1",
}


def circuit(station: Station, seed: int = 0) -> str:
    """The station's simulated chip as SPICE: its cells in their present state, its neurons at the station's biases.

    Raises `StationError`, and `UsageError` where the model of the cells has no circuit.
    """
    settings = Settings.of(station)
    chip = SimulatedArray(station, settings, seed)
    device = chip.array.device
    if not isinstance(device, FilamentArray):
        raise UsageError(f"model {settings.model} has no circuit; the filament model has")
    known = {item.name for item in fields(Biases)}
    biases = Biases(**{name: value for name, value in station.biases.items() if name in known})
    wiring = station.chip
    params = LifParams()
    if settings.mismatch:
        drawn = broadcast(
            params.sample(wiring.rows + wiring.columns, chip.seed, settings.mismatch), wiring.rows + wiring.columns
        )
        params = LifParams(**{name: values[: wiring.neurons] for name, values in drawn.items()})
    head = (
        f"* {wiring.name} of station {station.name}, seed {chip.seed}: {wiring.rows} × {wiring.columns} cells in their"
        f" present state, {wiring.neurons} neurons\n"
        "* lines BLc, WLr, SLr; neurons INk, OUTk, MEMk; start a transient with uic; made by labctl\n"
    )
    neurons = neurons_netlist(params, biases, list(wiring.r_syn), settings.temperature)
    return head + filament_netlist(device) + neurons
